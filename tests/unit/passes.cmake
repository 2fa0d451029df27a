tessera_unit_test(passes_eval_test SOURCES passes_eval_test.c ../../drive/trial.c llama_text.c LIBS tessera_passes tessera_ir)
tessera_unit_test(passes_form_test SOURCES passes_form_test.c LIBS tessera_passes)
