// The table of CPU levels.
#include "codegen/host/host.h"

#include "runtime/tsr_format.h"

static const cgh_isa isas[] = {
#define HOST_ISA(id, rank, features, cpu, llvm, bits, registers, masks, vnni)                                                    \
  {#id, rank, features, cpu, llvm, bits, registers, masks, vnni},
#include "codegen/host/host_isas.def"
#undef HOST_ISA
};

unsigned cgh_isa_count(void) { return sizeof isas / sizeof isas[0]; }
const cgh_isa *cgh_isa_get(unsigned i) { return &isas[i]; }

const cgh_isa *cgh_isa_of_name(ts_str name) {
  for (unsigned i = 0; i < cgh_isa_count(); i++)
    if (ts_str_is(name, isas[i].name)) return &isas[i];
  return NULL;
}
