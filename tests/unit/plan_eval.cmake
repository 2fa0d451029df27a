tessera_unit_test(plan_eval_test SOURCES plan_eval_test.c plan_eval.c llama_text.c LIBS tessera_passes tessera_ir)
