// losscape_tests [SUBSTRING]: runs the tests whose name contains SUBSTRING, all by default. The
// last line is "N passed, N failed"; the exit status is 1 when one failed or none ran.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "native/runtime/blas.h"
#include "native/runtime/simd.h"
#include "native/test/test.h"

namespace losscape::test {
namespace {

struct Case {
  const char* name;
  void (*body)();
};

std::vector<Case>& Cases() {
  static std::vector<Case> cases;
  return cases;
}

int failures_of_current = 0;

bool Passes(const Case& test) {
  failures_of_current = 0;
  try {
    test.body();
  } catch (const std::exception& error) {
    Fail(test.name, 0, std::string("unexpected exception: ") + error.what());
  }
  return failures_of_current == 0;
}

int Run(const char* filter) {
  GetSimd();
  ChooseBlasCore();
  std::sort(Cases().begin(), Cases().end(),
            [](const Case& a, const Case& b) { return std::strcmp(a.name, b.name) < 0; });
  int passed = 0, failed = 0;
  for (const Case& test : Cases()) {
    if (!std::strstr(test.name, filter)) continue;
    const bool ok = Passes(test);
    ok ? ++passed : ++failed;
    std::printf("%s %s\n", ok ? "ok    " : "FAILED", test.name);
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}

}  // namespace

Registration::Registration(const char* name, void (*body)()) { Cases().push_back({name, body}); }

void Fail(const char* file, int line, const std::string& what) {
  ++failures_of_current;
  std::printf("%s:%d: %s\n", file, line, what.c_str());
}

}  // namespace losscape::test

int main(int argc, char** argv) {
  try {
    return losscape::test::Run(argc > 1 ? argv[1] : "");
  } catch (const losscape::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
