// Status codes returned by every fallible function of the compiler's libraries.
//
// A status says only *what kind* of failure happened; the text a person reads goes to a ts_diags sink (diag.h), which is
// passed down beside it. The runtime's public API has its own enum (tsr_status) because its values are an ABI.
#ifndef TESSERA_BASE_STATUS_H
#define TESSERA_BASE_STATUS_H

typedef enum ts_status {
  TS_OK = 0,
  TS_INVALID,        // the input is wrong: a located diagnostic says where
  TS_NOT_FOUND,
  TS_OUT_OF_MEMORY,
  TS_OUT_OF_RANGE,   // over a bound, or arithmetic overflowed
  TS_CORRUPT,        // a file does not hold what its format promises
  TS_VERSION,
  TS_UNSUPPORTED,    // legal, but refused by name (see the rule in the diagnostic)
  TS_MISSING,        // a capability of this machine is missing (toolkit, driver, ISA)
  TS_IO,
  TS_CANCELLED,
  TS_MISMATCH,       // a comparison failed
  TS_INTERNAL,       // our bug
} ts_status;

const char *ts_status_name(ts_status s);

// Returns from the enclosing function when `expr` fails.
#define TS_TRY(expr)                              \
  do {                                            \
    ts_status ts_try_status_ = (expr);            \
    if (ts_try_status_ != TS_OK) return ts_try_status_; \
  } while (0)

#endif
