// The decoded form of a module: one array of operations for all functions, which an interpreter (or a translator) executes.
//
// Operands are *slots*: byte offsets of rows in the register file of a frame, or, with EMU_CONST set, in the module's pool of
// constant rows. Until slots are assigned (slots.c) they are register numbers. Predicates have a numbering of their own, one
// 32-bit lane mask each. Nothing here depends on how a launch is set up, and no state of a launch is in here.
#ifndef TESSERA_EMULATOR_PROGRAM_H
#define TESSERA_EMULATOR_PROGRAM_H

#include "emulator/arith_mma.h"
#include "emulator/ptx.h"

struct emu_exec;
struct emu_insn;
typedef void emu_handler(struct emu_exec *x, const struct emu_insn *in, uint32_t mask);

#define EMU_CONST 0x80000000u    // slot is in the constant pool
#define EMU_NONE 0xffffffffu     // no operand, no target
#define EMU_NO_PRED 0xffff

// How an operation ends: everything but PLAIN is finished by the warp scheduler (warp.c).
typedef enum emu_flow {
  EMU_PLAIN, EMU_BRA, EMU_BRX, EMU_CALL, EMU_RET, EMU_EXIT, EMU_BAR,
  EMU_CONVERGE,    // runs when all lanes of its member mask are here: shfl, vote, mma …
  EMU_WARP_BAR,    // bar.warp.sync
  EMU_YIELD
} emu_flow;

typedef enum emu_class {
  EMU_C_ARITH, EMU_C_INT, EMU_C_FLOAT, EMU_C_HALF, EMU_C_DOUBLE, EMU_C_SPECIAL, EMU_C_CONVERT, EMU_C_MOVE, EMU_C_LOAD, EMU_C_STORE,
  EMU_C_ATOMIC, EMU_C_SHUFFLE, EMU_C_MMA, EMU_C_SYNC, EMU_C_BRANCH, EMU_CLASS_COUNT
} emu_class;

enum {
  EMU_F_LEADER = 1,        // first of a basic block
  EMU_F_REJOIN = 2,        // some branch reconverges here
  EMU_F_SPIN = 4,          // may be a wait: volatile or atomic read, nanosleep
  EMU_F_ALIGNED = 8,       // all lanes of the warp must execute it together
  EMU_F_TRACKED = 16,      // uses a register that may be uninitialised (see emu_function.tracked)
  EMU_F_EXTRA = 64,        // the decoder's own (narrowing, widening, a temporary): not an instruction of the kernel
  EMU_F_PROPAGATE = 32,    // a move: an uninitialised source makes an uninitialised result
};

typedef struct emu_insn {
  emu_handler *run;
  union {
    emu_row_fn *row;
    emu_cmp_fn *cmp;
    const void *extra;     // emu_mem, emu_call …
  } u;
  uint32_t mode;
  uint32_t d, s[4];
  uint32_t *x;             // further slots: x[0..xd) are results, x[xd..xd+xs) sources
  uint8_t xd, xs;
  uint8_t wide;            // bit 0: d is a 64-bit row; bit i + 1: s[i] is
  uint8_t flow, cls, flags;
  bool guard_not;
  uint8_t sub;             // variant, as the handler likes
  uint16_t guard;          // predicate or EMU_NO_PRED
  uint16_t p, q;           // predicate results
  uint16_t ps;             // predicate source (selp, setp, bar.red, vote)
  bool ps_not;
  uint32_t target;         // of a branch
  uint32_t rejoin;         // where its lanes meet again, or EMU_NONE
  uint32_t stmt;           // index into emu_program.origins
} emu_insn;

typedef struct emu_mem {
  uint8_t space;           // ptx_space
  uint8_t bytes, count;    // of one element; elements
  bool sign;               // sign-extend what is loaded
  bool float_wide;
  bool base_wide;          // s[0] is a 64-bit row
  bool frame;              // offset is relative to the frame's local memory
  bool strong, acquire, release, is_volatile, cta_scope;
  bool nc;
  int64_t offset;
  // atomics
  uint8_t op;              // emu_op, or one of the two below
  emu_type type;
  uint32_t mode;
  // cp.async
  uint8_t copy_bytes;
} emu_mem;
enum { EMU_ATOM_EXCH = EMU_OP_COUNT, EMU_ATOM_CAS, EMU_ATOM_INC, EMU_ATOM_DEC };

typedef struct emu_call_arg {
  uint32_t frame_offset;   // of the caller's .param variable, or EMU_NONE
  uint32_t slot;           // else a row
  uint32_t bytes;
  bool wide;
} emu_call_arg;
typedef enum emu_builtin { EMU_B_NONE, EMU_B_VPRINTF, EMU_B_ASSERTFAIL, EMU_B_MALLOC, EMU_B_FREE } emu_builtin;
typedef struct emu_call_info {
  uint32_t callee;         // function number, or EMU_NONE: s[0] holds its address
  emu_builtin builtin;
  emu_call_arg *args, *rets;
  uint32_t arg_count, ret_count;
} emu_call_info;

typedef struct emu_brx_info {
  uint32_t *targets;
  uint32_t count;
} emu_brx_info;

typedef struct emu_mma_info {
  const emu_mma_desc *desc;
  uint32_t flags;
  emu_layout la, lb;
  uint8_t na, nb, nc, nd;
} emu_mma_info;

typedef struct emu_wmma_mem {
  emu_mem mem;             // space, base, offset; bytes of an element
  const emu_mma_desc *desc;
  emu_operand which;
  emu_type type;
  bool col;                // column-major in memory
  uint8_t regs;
  bool stride_wide;
} emu_wmma_mem;

typedef struct emu_origin {   // where an operation came from
  uint32_t func, stmt;        // EMU_NONE: none (the end of a function)
} emu_origin;

typedef struct emu_function {
  const ptx_func *ptx;
  uint32_t begin, end;        // operations
  uint32_t row_bytes;         // register file of a frame
  uint32_t pred_count;
  uint32_t static_shared;     // of an entry: bytes of the .shared variables it can reach
  uint32_t dynamic_shared_at; // of an entry: where its dynamic shared memory begins
  uint32_t frame_bytes;       // .local and .param variables of a frame
  uint32_t registers32;       // slots in units of 32-bit registers
  uint32_t *slot_of;          // register number → byte offset (predicates: their number); for debuggers and tracking
  uint32_t *tracked;          // registers whose initialisation is tracked at run time, as byte offsets / 128
  uint32_t tracked_count;
  bool indirect;              // makes calls whose callee isn't known
  TS_VEC(uint32_t) callees;
  emu_builtin builtin;
} emu_function;

typedef struct emu_program {
  ptx_module *ptx;
  TS_VEC(emu_insn) code;
  TS_VEC(emu_origin) origins;
  emu_function *functions;    // as ptx->funcs
  uint8_t *consts;            // constant rows, 256 bytes each
  uint32_t const_count;
} emu_program;

const ptx_stmt *emu_stmt_of(const emu_program *p, const emu_insn *in);   // NULL for none
// The text of a statement, for reports.
ts_str emu_stmt_text(const emu_program *p, const ptx_stmt *s);

// Lays out shared memory and function frames, then decodes every function. Addresses of .global and .const variables must be
// set before (ptx_var.address).
ts_status emu_decode(ts_arena *a, ptx_module *m, unsigned sm, ts_diags *d, emu_program *out);

// layout.c: addresses of .shared variables, per entry; offsets of parameters and variables in frames.
bool emu_layout_shared(ts_arena *a, ptx_module *m, emu_program *p, ts_diags *d);
bool emu_layout_frame(ptx_module *m, emu_function *fn, ptx_func *f, ts_diags *d);

// cfg.c: basic blocks, reconvergence points. slots.c: register rows.
void emu_find_rejoins(ts_arena *scratch, emu_program *p, emu_function *f);
ts_status emu_assign_slots(ts_arena *a, emu_program *p, emu_function *f, ts_diags *d);

// Generic addresses: windows for what is not device memory. A function's address is in a window too.
#define EMU_DEVICE_BASE 0x0000100000000000ull
#define EMU_SHARED_BASE 0x0000700000000000ull
#define EMU_LOCAL_BASE 0x0000710000000000ull
#define EMU_PARAM_BASE 0x0000720000000000ull
#define EMU_CODE_BASE 0x0000730000000000ull
#define EMU_WINDOW_SIZE 0x10000000000ull

#endif
