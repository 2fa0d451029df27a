// Streams, events and host callbacks. Work has finished when its submission returns, so a stream only has settings, an event
// only the time of its record, and waiting is checking. Callbacks run at submission, on the submitting thread.
#include "emulator/driver/driver.h"

#include <stdlib.h>

#define STREAM_LEGACY ((cu_handle)(uintptr_t)1)
#define STREAM_PER_THREAD ((cu_handle)(uintptr_t)2)

static bool predefined(cu_handle s) { return !s || s == STREAM_LEGACY || s == STREAM_PER_THREAD; }

cu_result drv_stream_check(cu_handle stream) {
  if (predefined(stream)) return CU_SUCCESS;
  drv_stream *s = drv_find(stream, DRV_STREAM);
  return s ? s->context->error : CU_ERROR_INVALID_HANDLE;
}

cu_result drv_do_cuStreamCreateWithPriority(cu_handle *out, unsigned flags, int priority) {
  if (!out || flags > 1) return CU_ERROR_INVALID_VALUE;
  drv_stream *s = calloc(1, sizeof *s);
  if (!s) return CU_ERROR_OUT_OF_MEMORY;
  s->context = drv_current();
  s->flags = flags;
  s->priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
  s->id = ++drv.next_id;
  drv_add(&s->context->objects, &s->object, DRV_STREAM);
  *out = s;
  return CU_SUCCESS;
}
cu_result drv_do_cuStreamCreate(cu_handle *out, unsigned flags) { return drv_do_cuStreamCreateWithPriority(out, flags, 0); }

cu_result drv_do_cuStreamDestroy_v2(cu_handle h) {
  drv_stream *s = drv_find(h, DRV_STREAM);
  if (!s) return CU_ERROR_INVALID_HANDLE;
  drv_remove(&s->object);
  free(s);
  return CU_SUCCESS;
}

static cu_result stream_of(cu_handle h, drv_stream *out) {
  drv_stream *s = drv_find(h, DRV_STREAM);
  if (!s && !predefined(h)) return CU_ERROR_INVALID_HANDLE;
  *out = s ? *s : (drv_stream){.context = drv_current(), .id = (uint64_t)(uintptr_t)h};
  return CU_SUCCESS;
}
#define STREAM_FIELD(name, type, value)                         \
  cu_result drv_do_cuStreamGet##name(cu_handle h, type *out) {  \
    drv_stream s;                                               \
    if (!out) return CU_ERROR_INVALID_VALUE;                    \
    cu_result r = stream_of(h, &s);                             \
    if (r == CU_SUCCESS) *out = (value);                        \
    return r;                                                   \
  }
STREAM_FIELD(Priority, int, s.priority)
STREAM_FIELD(Flags, unsigned, s.flags)
STREAM_FIELD(Id, unsigned long long, s.id)
STREAM_FIELD(Ctx, cu_handle, s.context)
STREAM_FIELD(Device, cu_device, s.context->device->ordinal)

cu_result drv_do_cuStreamQuery(cu_handle stream) { return drv_stream_check(stream); }
cu_result drv_do_cuStreamSynchronize(cu_handle stream) { return drv_stream_check(stream); }
cu_result drv_do_cuStreamIsCapturing(cu_handle stream, int *out) {
  if (!out) return CU_ERROR_INVALID_VALUE;
  *out = 0;
  return drv_stream_check(stream);
}
cu_result drv_do_cuThreadExchangeStreamCaptureMode(int *mode) {
  if (!mode || *mode < 0 || *mode > 2) return CU_ERROR_INVALID_VALUE;
  *mode = 0;   // nothing captures
  return CU_SUCCESS;
}

cu_result drv_do_cuLaunchHostFunc(cu_handle stream, cu_host_fn *fn, void *user) {
  if (!fn) return CU_ERROR_INVALID_VALUE;
  cu_result r = drv_stream_check(stream);
  if (r != CU_SUCCESS) return r;
  drv_callback_begin();
  fn(user);
  drv_callback_end();
  return CU_SUCCESS;
}
cu_result drv_do_cuStreamAddCallback(cu_handle stream, cu_stream_callback *fn, void *user, unsigned flags) {
  if (!fn || flags) return CU_ERROR_INVALID_VALUE;
  cu_result r = drv_stream_check(stream);
  if (r == CU_ERROR_INVALID_HANDLE) return r;
  drv_callback_begin();
  fn(stream, r, user);
  drv_callback_end();
  return CU_SUCCESS;
}

// --- events ----------------------------------------------------------------------------------------------------------------

cu_result drv_do_cuEventCreate(cu_handle *out, unsigned flags) {
  if (!out || flags & ~7u || (flags & DRV_EVENT_INTERPROCESS && !(flags & DRV_EVENT_DISABLE_TIMING)))
    return CU_ERROR_INVALID_VALUE;
  if (flags & DRV_EVENT_INTERPROCESS) return CU_ERROR_NOT_SUPPORTED;
  drv_event *e = calloc(1, sizeof *e);
  if (!e) return CU_ERROR_OUT_OF_MEMORY;
  e->context = drv_current();
  e->flags = flags;
  drv_add(&e->context->objects, &e->object, DRV_EVENT);
  *out = e;
  return CU_SUCCESS;
}

cu_result drv_do_cuEventRecordWithFlags(cu_handle event, cu_handle stream, unsigned flags) {
  drv_event *e = drv_find(event, DRV_EVENT);
  drv_stream s;
  if (flags & ~1u) return CU_ERROR_INVALID_VALUE;
  if (!e) return CU_ERROR_INVALID_HANDLE;
  cu_result r = stream_of(stream, &s);
  if (r == CU_SUCCESS) r = drv_stream_check(stream);
  if (r == CU_SUCCESS && s.context != e->context) r = CU_ERROR_INVALID_HANDLE;   // as documented: one context for both
  if (r != CU_SUCCESS) return r;
  e->recorded = true;
  e->ns = drv_now_ns();
  return CU_SUCCESS;
}
cu_result drv_do_cuEventRecord(cu_handle event, cu_handle stream) { return drv_do_cuEventRecordWithFlags(event, stream, 0); }

static cu_result event_check(cu_handle event) {
  drv_event *e = drv_find(event, DRV_EVENT);
  return e ? e->context->error : CU_ERROR_INVALID_HANDLE;
}
cu_result drv_do_cuEventQuery(cu_handle event) { return event_check(event); }
cu_result drv_do_cuEventSynchronize(cu_handle event) { return event_check(event); }

cu_result drv_do_cuEventDestroy_v2(cu_handle event) {
  drv_event *e = drv_find(event, DRV_EVENT);
  if (!e) return CU_ERROR_INVALID_HANDLE;
  drv_remove(&e->object);
  free(e);
  return CU_SUCCESS;
}
cu_result drv_do_cuEventDestroy(cu_handle event) { return drv_do_cuEventDestroy_v2(event); }

cu_result drv_do_cuEventElapsedTime_v2(float *ms, cu_handle from, cu_handle to) {
  drv_event *a = drv_find(from, DRV_EVENT), *b = drv_find(to, DRV_EVENT);
  if (!ms) return CU_ERROR_INVALID_VALUE;
  if (!a || !b || !a->recorded || !b->recorded || (a->flags | b->flags) & DRV_EVENT_DISABLE_TIMING)
    return CU_ERROR_INVALID_HANDLE;
  *ms = (float)((double)(int64_t)(b->ns - a->ns) * 1e-6);
  return CU_SUCCESS;
}
cu_result drv_do_cuEventElapsedTime(float *ms, cu_handle from, cu_handle to) {
  return drv_do_cuEventElapsedTime_v2(ms, from, to);
}

cu_result drv_do_cuStreamWaitEvent(cu_handle stream, cu_handle event, unsigned flags) {
  if (flags & ~1u) return CU_ERROR_INVALID_VALUE;
  cu_result r = drv_stream_check(stream);
  return r == CU_SUCCESS ? event_check(event) : r;
}
