if(TARGET tessera_frontend AND TARGET tessera_passes)
  include(${CMAKE_SOURCE_DIR}/tests/support/CMakeLists.txt)
  tessera_unit_test(frontend_spec_test SOURCES frontend_spec_test.c LIBS tessera_passes tessera_frontend tessera_test_support)
endif()
