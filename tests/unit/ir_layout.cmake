tessera_unit_test(ir_size_test SOURCES ir_size_test.c LIBS tessera_ir)
tessera_unit_test(ir_layout_test SOURCES ir_layout_test.c LIBS tessera_ir)
