// Documentation generated from the tables of the IR.
#ifndef TESSERA_IR_DOC_H
#define TESSERA_IR_DOC_H

#include "base/str.h"

void ir_doc_ops(ts_text *out);   // docs/ops.md: operations of every level, scalar operations

#endif
