// Devices by URI, the choice of a target, streams.
#include "runtime/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void tsr_device_log(const tsr_device *d, int level, const char *fmt, ...) {
  if (!d->options.log) return;
  char text[1024];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  d->options.log(d->options.log_user, level, text);
}

tsr_status tsr_device_open(const char *uri, const tsr_device_options *options, tsr_error *e, tsr_device **out) {
  tsr_device_options o;
  if (!uri || !out || !tsr_options(&o, sizeof o, options) || !o.allocate != !o.release)
    return tsr_fail(e, TSR_INVALID, "tsr_device_open: bad arguments");
  tsr_device *d = tsr_calloc(1, sizeof *d);
  if (!d) return tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory");
  atomic_init(&d->refs, 1);
  d->options = o;
  pthread_mutex_init(&d->lock, NULL);
  tsr_status s;
  if (strcmp(uri, "host") == 0) s = tsr_host_open(d, NULL, e);
  else if (strncmp(uri, "host:", 5) == 0) s = tsr_host_open(d, uri + 5, e);
  else if (strncmp(uri, "cuda:", 5) == 0) s = tsr_cuda_open(d, "cuda", uri + 5, e);
  else if (strcmp(uri, "cuda") == 0) s = tsr_cuda_open(d, "cuda", "0", e);
  else if (strncmp(uri, "cuda-emu:", 9) == 0) s = tsr_cuda_open(d, "cuda-emu", uri + 9, e);
  else s = tsr_fail(e, TSR_NO_DEVICE, "unknown device '%.100s'; there are host, host:LEVEL, cuda:N, cuda-emu:sm_NN", uri);
  d->options.driver = NULL;   // the caller's string was for the opening only
  if (s != TSR_OK) {
    tsr_device_release(d);
    return s;
  }
  *out = d;
  return TSR_OK;
}

tsr_device *tsr_device_retain(tsr_device *d) {
  if (d) atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
  return d;
}

void tsr_device_release(tsr_device *d) {
  if (!d || atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) != 1) return;
  if (d->ops) d->ops->close(d);
  else free(d->own);   // opening failed before there was anything to close
  pthread_mutex_destroy(&d->lock);
  free(d);
}

const char *tsr_device_name(const tsr_device *d) { return d ? d->name : NULL; }

// The best target of an artifact for a device; TSR_NONE, and says why each one fails.
uint32_t tsr_find_target(const tsr_artifact *a, const tsr_device *d, tsr_error *e, tsr_status *status) {
  uint32_t best = TSR_NONE, best_rank = 0;
  char why[200], all[380] = "";
  size_t used = 0;
  for (uint32_t i = 0; i < a->targets.targets_count; i++) {
    uint32_t rank = d->ops->rank(d, a, &a->targets.targets[i], why);
    if (rank > best_rank) best = i, best_rank = rank;
    if (rank || used >= sizeof all) continue;
    int n = snprintf(all + used, sizeof all - used, "%s%s", used ? "; " : "", why);
    used += n > 0 ? (size_t)n : 0;
  }
  *status = best != TSR_NONE ? TSR_OK : tsr_fail(e, TSR_UNSUPPORTED, "%.60s cannot run on %.40s: %s", a->path, d->name, all);
  return best;
}

tsr_status tsr_device_supports(tsr_device *d, const tsr_artifact *a, tsr_error *e) {
  if (!d || !a) return tsr_fail(e, TSR_INVALID, "tsr_device_supports: bad arguments");
  tsr_status s;
  tsr_find_target(a, d, e, &s);
  return s;
}

tsr_status tsr_device_target(tsr_device *d, const tsr_artifact *a, const char **target) {
  if (!d || !a || !target) return TSR_INVALID;
  tsr_status s;
  uint32_t t = tsr_find_target(a, d, NULL, &s);
  if (s == TSR_OK) *target = tsr_string(a, a->targets.targets[t].name);
  return s;
}

tsr_status tsr_stream_wrap(tsr_device *d, void *native, tsr_stream **out) {
  if (!d || !out || (d->host_memory && native)) return TSR_INVALID;
  tsr_stream *s = tsr_calloc(1, sizeof *s);
  if (!s) return TSR_OUT_OF_MEMORY;
  *s = (tsr_stream){.device = tsr_device_retain(d), .native = native};
  *out = s;
  return TSR_OK;
}

tsr_status tsr_stream_wait(tsr_stream *s, tsr_error *e) {
  if (!s) return tsr_fail(e, TSR_INVALID, "tsr_stream_wait: no stream");
  tsr_status first = TSR_OK;
  while (s->sessions) {   // settling takes the session off the list
    tsr_status r = tsr_session_settle(s->sessions, first == TSR_OK ? e : NULL);
    if (first == TSR_OK) first = r;
  }
  if (first != TSR_OK) return first;
  return s->device->ops->wait(s->device, s->native, e);
}

void tsr_stream_release(tsr_stream *s) {
  if (!s) return;
  tsr_stream_wait(s, NULL);
  tsr_device_release(s->device);
  free(s);
}
