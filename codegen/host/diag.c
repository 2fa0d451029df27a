// The rows of diag.def as objects.
#include "codegen/host/host.h"
#define TS_DIAG TS_DIAG_DEFINE
#include "codegen/host/diag.def"
#undef TS_DIAG
