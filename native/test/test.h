// A small test harness, so that the native tests need nothing but a compiler.
//
//   TEST(name) { CHECK(x == 1); CHECK_NEAR(y, 2.0, 1e-12); CHECK_THROWS(F(), Code::kShape); }
//
// A failed check is reported and counted; the test goes on, so checks must not guard dereferences.
#pragma once

#include <cmath>
#include <string>

#include "native/runtime/error.h"

namespace losscape::test {

struct Registration {
  Registration(const char* name, void (*body)());
};

void Fail(const char* file, int line, const std::string& what);

}  // namespace losscape::test

#define TEST(NAME)                                                              \
  static void Test_##NAME();                                                    \
  static const ::losscape::test::Registration kTest_##NAME(#NAME, Test_##NAME); \
  static void Test_##NAME()

#define CHECK(CONDITION)                                                      \
  do {                                                                        \
    if (!(CONDITION)) ::losscape::test::Fail(__FILE__, __LINE__, #CONDITION); \
  } while (false)

// Fails for NaN on either side.
#define CHECK_NEAR(ACTUAL, EXPECTED, TOLERANCE)                                     \
  do {                                                                              \
    const double actual_ = (ACTUAL);                                                \
    const double expected_ = (EXPECTED);                                            \
    if (!(std::fabs(actual_ - expected_) <= (TOLERANCE))) {                         \
      ::losscape::test::Fail(__FILE__, __LINE__,                                    \
                             std::string(#ACTUAL " = ") + std::to_string(actual_) + \
                                 ", expected " + std::to_string(expected_));        \
    }                                                                               \
  } while (false)

#define CHECK_THROWS(EXPRESSION, CODE)                                                  \
  do {                                                                                  \
    bool thrown_ = false;                                                               \
    try {                                                                               \
      static_cast<void>(EXPRESSION);                                                    \
    } catch (const ::losscape::Error& error_) {                                         \
      thrown_ = error_.code() == (CODE);                                                \
    }                                                                                   \
    if (!thrown_) {                                                                     \
      ::losscape::test::Fail(__FILE__, __LINE__, #EXPRESSION " does not throw " #CODE); \
    }                                                                                   \
  } while (false)
