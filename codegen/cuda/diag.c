// The rows of diag.def as objects.
#include "codegen/cuda/cuda.h"
#define TS_DIAG TS_DIAG_DEFINE
#include "codegen/cuda/diag.def"
#undef TS_DIAG
