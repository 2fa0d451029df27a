// Names of the status codes (see status.h).
#include "base/status.h"

const char *ts_status_name(ts_status s) {
  switch (s) {
    case TS_OK: return "ok";
    case TS_INVALID: return "invalid input";
    case TS_NOT_FOUND: return "not found";
    case TS_OUT_OF_MEMORY: return "out of memory";
    case TS_OUT_OF_RANGE: return "out of range";
    case TS_CORRUPT: return "corrupt file";
    case TS_VERSION: return "wrong version";
    case TS_UNSUPPORTED: return "unsupported";
    case TS_MISSING: return "missing capability";
    case TS_IO: return "input/output error";
    case TS_CANCELLED: return "cancelled";
    case TS_MISMATCH: return "mismatch";
    case TS_INTERNAL: return "internal error";
  }
  return "unknown status";
}
