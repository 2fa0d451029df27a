tessera_unit_test(ir_encoding_test SOURCES ir_encoding_test.c LIBS tessera_ir m)
