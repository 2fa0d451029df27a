tessera_unit_test(ir_text_test SOURCES ir_text_test.c LIBS tessera_ir)
tessera_unit_test(ir_verify_test SOURCES ir_verify_test.c LIBS tessera_ir)
tessera_unit_test(ir_eval_test SOURCES ir_eval_test.c LIBS tessera_ir)
tessera_unit_test(ir_eval_tensor_test SOURCES ir_eval_tensor_test.c LIBS tessera_ir)
