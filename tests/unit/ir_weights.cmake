tessera_unit_test(ir_weights_test SOURCES ir_weights_test.c LIBS tessera_ir m)
