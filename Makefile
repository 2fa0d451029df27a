# Tessera: the commands people use. `make demo` and `make test` set up, build and run everything on a fresh Debian 12.
BUILD ?= build
SANITIZED ?= build-sanitize
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)

.PHONY: all setup demo test test-sanitized test-fast sanitize bench install install-emulator clean
all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) -j $(JOBS)

setup:
	@scripts/setup.sh build cuda

$(BUILD)/build.ninja:
	@scripts/setup.sh build
	@cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_INSTALL_PREFIX=$(PREFIX) >/dev/null

demo:
	@scripts/setup.sh build cuda model
	@$(MAKE) --no-print-directory all
	@scripts/demo.sh $(BUILD)

# All tests: unit and end to end.
test:
	@scripts/setup.sh build cuda
	@$(MAKE) --no-print-directory all
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

# The same under the address and undefined-behaviour sanitizers (the CUDA toolchain's own leaks are not ours to find).
test-sanitized: sanitize
	@ASAN_OPTIONS=detect_leaks=0 ctest --test-dir $(SANITIZED) --output-on-failure -j $(JOBS)

test-fast: all
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

sanitize:
	@[ -f $(SANITIZED)/build.ninja ] || cmake -S . -B $(SANITIZED) -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DTESSERA_SANITIZE=ON >/dev/null
	@ninja -C $(SANITIZED) -j $(JOBS)

bench: all
	@scripts/setup.sh model
	@scripts/bench.sh $(BUILD)

install: all
	@cmake --install $(BUILD) --prefix $(PREFIX)

install-emulator: all
	@cmake --install $(BUILD) --prefix $(PREFIX) --component emulator

clean:
	@rm -rf $(BUILD) $(SANITIZED)
