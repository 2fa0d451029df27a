// Runs the elementwise function y = f(x) of an artifact on the host: cc ten_lines.c $(pkg-config --cflags --libs tessera)
// Usage: ten_lines ARTIFACT.tsr [FUNCTION [INPUT [OUTPUT]]]
#include <stdio.h>
#include <tessera.h>

int main(int argc, char **argv) {
  const char *f = argc > 2 ? argv[2] : "f", *in = argc > 3 ? argv[3] : "x", *out = argc > 4 ? argv[4] : "y";
  tsr_error e = {TSR_INVALID, "usage: ten_lines ARTIFACT.tsr [FUNCTION [INPUT [OUTPUT]]]"};
  tsr_artifact *artifact; tsr_device *device; tsr_session *session; tsr_buffer *x, *y;
  tsr_type type = {TSR_F32, 1, {4}};
  float data[4] = {-1, 0, 0.5f, 2};
  if (argc < 2 || tsr_artifact_open(argv[1], NULL, &e, &artifact) || tsr_device_open("host", NULL, &e, &device) ||
      tsr_session_create(artifact, device, NULL, &e, &session) || tsr_buffer_create(device, &type, &e, &x) ||
      tsr_buffer_create(device, &type, &e, &y) || tsr_buffer_write(x, 0, data, sizeof data) || tsr_session_bind(session, f, in, x) ||
      tsr_session_bind(session, f, out, y) || tsr_session_run(session, f, NULL, 0, NULL, &e) || tsr_buffer_read(y, 0, data, sizeof data))
    return fprintf(stderr, "ten_lines: %s\n", e.text), 1;
  return printf("%g %g %g %g\n", data[0], data[1], data[2], data[3]) < 0;
}
