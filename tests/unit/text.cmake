pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
tessera_unit_test(text_test SOURCES text_test.c LIBS tessera_text tessera_base)
tessera_unit_test(text_sample_test SOURCES text_sample_test.c LIBS tessera_text tessera_base)
tessera_unit_test(text_model_test SOURCES text_model_test.c LIBS tessera_text tessera_base PkgConfig::JANSSON)
