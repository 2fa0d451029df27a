if(TARGET tessera_frontend)
  include(${CMAKE_SOURCE_DIR}/tests/support/CMakeLists.txt)
  tessera_unit_test(frontend_files_test SOURCES frontend_files_test.c LIBS tessera_frontend tessera_test_support)
endif()
