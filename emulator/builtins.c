// Special registers, and the functions that a kernel calls but no module defines: vprintf, __assertfail, malloc, free.
#include "emulator/machine.h"

#include <stdlib.h>
#include <time.h>

void emu_sreg_row(emu_exec *x, ptx_sreg r, uint64_t t[32]) {
  const emu_launch_state *l = x->launch;
  const emu_launch_config *c = &l->config;
  const emu_warp *w = x->warp;
  uint64_t v = 0;
  switch (r) {
    case PTX_SREG_TID_X: case PTX_SREG_TID_Y: case PTX_SREG_TID_Z:
      for (int i = 0; i < 32; i++) t[i] = w->tid[r - PTX_SREG_TID_X][i];
      return;
    case PTX_SREG_LANEID:
      for (unsigned i = 0; i < 32; i++) t[i] = i;
      return;
    case PTX_SREG_LANEMASK_EQ:
      for (unsigned i = 0; i < 32; i++) t[i] = 1u << i;
      return;
    case PTX_SREG_LANEMASK_LE:
      for (unsigned i = 0; i < 32; i++) t[i] = (2ull << i) - 1;
      return;
    case PTX_SREG_LANEMASK_LT:
      for (unsigned i = 0; i < 32; i++) t[i] = (1u << i) - 1;
      return;
    case PTX_SREG_LANEMASK_GE:
      for (unsigned i = 0; i < 32; i++) t[i] = 0xffffffffu << i;
      return;
    case PTX_SREG_LANEMASK_GT:
      for (unsigned i = 0; i < 32; i++) t[i] = (uint32_t)(0xfffffffeull << i);
      return;
    case PTX_SREG_NTID_X: case PTX_SREG_NTID_Y: case PTX_SREG_NTID_Z: v = c->block[r - PTX_SREG_NTID_X]; break;
    case PTX_SREG_CTAID_X: case PTX_SREG_CTAID_Y: case PTX_SREG_CTAID_Z: v = x->block->ctaid[r - PTX_SREG_CTAID_X]; break;
    case PTX_SREG_NCTAID_X: case PTX_SREG_NCTAID_Y: case PTX_SREG_NCTAID_Z: v = c->grid[r - PTX_SREG_NCTAID_X]; break;
    // Without clusters every block is a cluster of one.
    case PTX_SREG_CLUSTERID_X: case PTX_SREG_CLUSTERID_Y: case PTX_SREG_CLUSTERID_Z: v = x->block->ctaid[r - PTX_SREG_CLUSTERID_X]; break;
    case PTX_SREG_NCLUSTERID_X: case PTX_SREG_NCLUSTERID_Y: case PTX_SREG_NCLUSTERID_Z: v = c->grid[r - PTX_SREG_NCLUSTERID_X]; break;
    case PTX_SREG_CLUSTER_NCTAID_X: case PTX_SREG_CLUSTER_NCTAID_Y: case PTX_SREG_CLUSTER_NCTAID_Z: case PTX_SREG_CLUSTER_NCTARANK: v = 1; break;
    case PTX_SREG_WARPID: v = w->index; break;
    case PTX_SREG_NWARPID: v = l->warps; break;
    case PTX_SREG_SMID: v = x->block->number % 16; break;
    case PTX_SREG_NSMID: v = 16; break;
    case PTX_SREG_GRIDID: v = 1; break;
    case PTX_SREG_CLOCK: case PTX_SREG_CLOCK64: v = w->executed + x->warps_run; break;   // instructions, so that runs repeat
    case PTX_SREG_CLOCK_HI: v = (w->executed + x->warps_run) >> 32; break;
    case PTX_SREG_GLOBALTIMER: case PTX_SREG_GLOBALTIMER_LO: v = l->started_ns + x->warps_run; break;
    case PTX_SREG_GLOBALTIMER_HI: v = (l->started_ns + x->warps_run) >> 32; break;
    case PTX_SREG_TOTAL_SMEM: case PTX_SREG_AGGR_SMEM: v = l->shared_bytes; break;
    case PTX_SREG_DYNAMIC_SMEM: v = c->dynamic_shared; break;
    default: break;
  }
  for (int i = 0; i < 32; i++) t[i] = v;
}

// The bytes of a call's parameter for one lane.
static uint64_t argument(emu_exec *x, const emu_call_info *c, uint32_t k, unsigned lane) {
  uint64_t v = 0;
  const emu_call_arg *a = &c->args[k];
  memcpy(&v, x->warp->local + (size_t)lane * x->warp->local_bytes + x->frame->local_base + a->frame_offset, a->bytes < 8 ? a->bytes : 8);
  return v;
}
static void give_result(emu_exec *x, const emu_call_info *c, unsigned lane, uint64_t v) {
  if (!c->ret_count) return;
  const emu_call_arg *a = &c->rets[0];
  size_t at = (size_t)lane * x->warp->local_bytes + x->frame->local_base + a->frame_offset;
  memcpy(x->warp->local + at, &v, a->bytes < 8 ? a->bytes : 8);
  memset(x->warp->local_valid + at, EMU_BYTE_VALID, a->bytes);
}

// A NUL-terminated string behind a device address, as far as it is mapped.
static ts_str device_string(emu_exec *x, unsigned lane, uint64_t address) {
  uint64_t room;
  const char *s = (const char *)emu_host_pointer(x, lane, address, &room);
  if (!s) return TS_STR("(bad pointer)");
  const char *end = memchr(s, 0, room > 1 << 16 ? 1 << 16 : room);
  return (ts_str){s, end ? (size_t)(end - s) : (size_t)(room > 1 << 16 ? 1 << 16 : room)};
}

typedef struct printf_args {
  const uint8_t *at;
  uint64_t room, used;
} printf_args;
static uint64_t next_arg(printf_args *p, unsigned bytes) {
  uint64_t v = 0;
  p->used = (p->used + bytes - 1) / bytes * bytes;
  if (p->at && p->used + bytes <= p->room) memcpy(&v, p->at + p->used, bytes);
  p->used += bytes;
  return v;
}

// One conversion of a format, "%" to its letter. Returns its length, 0 when it is none.
static size_t print_one(emu_exec *x, unsigned lane, ts_text *out, const char *f, size_t n, printf_args *args) {
  char spec[40];
  size_t k = 0, i = 1;
  unsigned digits = 0;
  spec[k++] = '%';
  while (i < n && k < 24 && strchr("-+ #0123456789.*", f[i])) {
    int32_t width = f[i] == '*' ? (int32_t)next_arg(args, 4) : 0;
    if (f[i] == '*') k += (size_t)snprintf(spec + k, sizeof spec - k - 8, "%d", width < -9999 ? -9999 : width > 9999 ? 9999 : width);
    else spec[k++] = f[i];
    digits = f[i] >= '0' && f[i] <= '9' ? digits + 1 : 0;
    i++;
    if (k >= 24 || digits > 4) return 0;   // a width of five digits is no use to anyone
  }
  unsigned longs = 0;
  while (i < n && strchr("lhzjt", f[i])) longs += f[i] != 'h', i++;
  if (i == n) return 0;
  char c = f[i];
  if (strchr("diuxXoc", c)) {
    uint64_t v = next_arg(args, longs ? 8 : 4);
    if (c == 'c') snprintf(spec + k, 8, "c");
    else snprintf(spec + k, 8, "ll%c", c);
    bool is_signed = c == 'd' || c == 'i';
    if (c == 'c') ts_text_printf(out, spec, (int)v);
    else ts_text_printf(out, spec, is_signed && !longs ? (long long)(int32_t)v : (long long)v);
  } else if (strchr("eEfFgGaA", c)) {
    uint64_t bits = next_arg(args, 8);
    double v;
    memcpy(&v, &bits, 8);
    snprintf(spec + k, 8, "%c", c);
    ts_text_printf(out, spec, v);
  } else if (c == 'p') {
    ts_text_printf(out, "0x%llx", (unsigned long long)next_arg(args, 8));
  } else if (c == 's') {
    ts_text_add(out, device_string(x, lane, next_arg(args, 8)));
  } else if (c == '%') {
    ts_text_putc(out, '%');
  } else {
    return 0;
  }
  return i + 1;
}

static void device_printf(emu_exec *x, unsigned lane, uint64_t format, uint64_t arguments, ts_text *out) {
  printf_args args = {0};
  args.at = emu_host_pointer(x, lane, arguments, &args.room);
  ts_str f = device_string(x, lane, format);
  for (size_t i = 0; i < f.len;) {
    size_t used = f.data[i] == '%' ? print_one(x, lane, out, f.data + i, f.len - i, &args) : 0;
    if (!used) ts_text_putc(out, f.data[i]), used = 1;
    i += used;
  }
}

bool emu_call_builtin(emu_exec *x, const emu_insn *in, const emu_call_info *c, uint32_t mask) {
  emu_context *ctx = x->context;
  for (unsigned lane = 0; lane < 32; lane++) {
    if (!(mask >> lane & 1)) continue;
    switch (c->builtin) {
      case EMU_B_VPRINTF: {
        pthread_mutex_lock(&ctx->lock);
        if (c->arg_count == 2 && x->launch->output.len < 16 << 20) device_printf(x, lane, argument(x, c, 0, lane), argument(x, c, 1, lane), &x->launch->output);
        pthread_mutex_unlock(&ctx->lock);
        give_result(x, c, lane, 0);
        break;
      }
      case EMU_B_MALLOC: {
        emu_addr a = 0;
        pthread_mutex_lock(&ctx->lock);
        if (c->arg_count == 1) emu_alloc_internal(ctx, argument(x, c, 0, lane), "device malloc", false, &a);
        pthread_mutex_unlock(&ctx->lock);
        give_result(x, c, lane, a);
        break;
      }
      case EMU_B_FREE: {
        uint64_t a = c->arg_count == 1 ? argument(x, c, 0, lane) : 0;
        pthread_mutex_lock(&ctx->lock);
        ts_status s = a ? emu_free(ctx, a) : TS_OK;
        pthread_mutex_unlock(&ctx->lock);
        if (s == TS_OK) break;
        emu_fault_report(x, in, EMU_FAULT_USE_AFTER_FREE, lane, a, 0, NULL, "free of 0x%llx, which malloc did not give or which was freed", (unsigned long long)a);
        return false;
      }
      default: {
        ts_str what = c->arg_count > 0 ? device_string(x, lane, argument(x, c, 0, lane)) : TS_STR("?");
        ts_str file = c->arg_count > 1 ? device_string(x, lane, argument(x, c, 1, lane)) : TS_STR("?");
        uint64_t line = c->arg_count > 2 ? argument(x, c, 2, lane) : 0;
        emu_fault_report(x, in, EMU_FAULT_ASSERT, lane, 0, 0, NULL, "%.*s:%llu: assertion `%.*s' failed", TS_FMT(file), (unsigned long long)line, TS_FMT(what));
        return false;
      }
    }
  }
  return true;
}
