#include "native/runtime/executor.h"

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "native/runtime/error.h"
#include "native/runtime/parallel.h"
#include "native/test/test.h"

namespace losscape {
namespace {

using std::chrono::milliseconds;

// Waits for completion and keeps how it went: "ok", a code, or the message of another exception.
class Outcome {
 public:
  Executor::Done Done() {
    return [this](std::exception_ptr error) {
      std::string result = "ok";
      try {
        if (error) std::rethrow_exception(error);
      } catch (const Error& failure) {
        result = CodeName(failure.code());
      } catch (const std::exception& failure) {
        result = failure.what();
      }
      promise_.set_value(result);
    };
  }
  std::string Wait() { return promise_.get_future().get(); }

 private:
  std::promise<std::string> promise_;
};

void SpinUntil(const std::atomic<bool>& flag) {
  while (!flag) std::this_thread::sleep_for(milliseconds(1));
}

TEST(executor_serves_by_priority_and_order) {
  const auto executor = Executor::Acquire();
  std::atomic<bool> open{false};
  std::string order;
  Outcome gate, last;
  executor->Submit(
      {}, [&](RunContext&) { SpinUntil(open); }, gate.Done());
  const auto append = [&](char c) { return [&order, c](RunContext&) { order += c; }; };
  const auto nothing = [](std::exception_ptr) {};
  executor->Submit({}, append('a'), nothing);
  executor->Submit({nullptr, 1, 0}, append('1'), nothing);
  executor->Submit({nullptr, 1, 0}, append('2'), nothing);
  executor->Submit({}, append('b'), last.Done());
  open = true;
  CHECK(gate.Wait() == "ok");
  CHECK(last.Wait() == "ok");
  CHECK(order == "12ab");
}

TEST(executor_serves_urgent_jobs_inside_a_run) {
  const auto executor = Executor::Acquire();
  std::atomic<bool> served{false};
  std::atomic<bool> running{false};
  std::atomic<int> depth{0};
  Outcome program, urgent;
  executor->Submit(
      {},
      [&](RunContext& context) {
        running = true;
        while (!served) context.Yield();
      },
      program.Done());
  SpinUntil(running);
  executor->Submit(
      {nullptr, 1, 0},
      [&](RunContext& context) {
        ++depth;
        context.Yield();  // does not serve again: priority 1 is not interrupted
        CHECK(depth == 1);
        --depth;
        served = true;
      },
      urgent.Done());
  CHECK(urgent.Wait() == "ok");
  CHECK(program.Wait() == "ok");
}

TEST(executor_serves_nothing_on_top_of_a_cancelled_job) {
  const auto executor = Executor::Acquire();
  const auto token = std::make_shared<Token>();
  std::atomic<bool> inside{false};
  std::atomic<bool> servedInside{false};
  Outcome program, first, second;
  executor->Submit(
      {token, 0, 0},
      [&](RunContext& context) {
        struct Scope {
          std::atomic<bool>& flag;
          explicit Scope(std::atomic<bool>& f) : flag(f) { flag = true; }
          ~Scope() { flag = false; }
        } scope(inside);
        executor->Submit(
            {nullptr, 1, 0}, [&](RunContext&) { token->Cancel(); }, first.Done());
        executor->Submit(
            {nullptr, 1, 0}, [&](RunContext&) { servedInside = inside.load(); }, second.Done());
        context.Yield();
      },
      program.Done());
  CHECK(program.Wait() == "ERR_ABORTED");
  CHECK(first.Wait() == "ok");
  CHECK(second.Wait() == "ok");
  CHECK(!servedInside);
}

TEST(executor_interleaves_steps) {
  const auto executor = Executor::Acquire();
  std::atomic<bool> open{false};
  std::string order;
  Outcome gate, a, b;
  executor->Submit(
      {}, [&](RunContext&) { SpinUntil(open); }, gate.Done());
  const auto steps = [&](char c) {
    return [&order, c, n = 0](RunContext&) mutable {
      order += c;
      return ++n < 3;
    };
  };
  executor->SubmitSteps({}, steps('a'), a.Done());
  executor->SubmitSteps({}, steps('b'), b.Done());
  open = true;
  CHECK(a.Wait() == "ok");
  CHECK(b.Wait() == "ok");
  CHECK(gate.Wait() == "ok");
  CHECK(order == "ababab");
}

TEST(executor_cancels) {
  const auto executor = Executor::Acquire();
  const auto token = std::make_shared<Token>();
  std::atomic<bool> running{false};
  Outcome run, queued, steps;
  bool queuedRan = false;
  executor->Submit(
      {token, 0, 0},
      [&](RunContext& context) {
        running = true;
        for (;;) context.Yield();
      },
      run.Done());
  executor->Submit(
      {token, 0, 0}, [&](RunContext&) { queuedRan = true; }, queued.Done());
  executor->SubmitSteps(
      {token, 0, 0}, [](RunContext&) { return true; }, steps.Done());
  SpinUntil(running);
  token->Cancel();
  CHECK(run.Wait() == "ERR_ABORTED");
  CHECK(queued.Wait() == "ERR_ABORTED");
  CHECK(steps.Wait() == "ERR_ABORTED");
  CHECK(!queuedRan);
}

TEST(executor_reports_what_jobs_throw) {
  const auto executor = Executor::Acquire();
  Outcome coded, other, memory;
  executor->Submit(
      {}, [](RunContext&) { throw Error(Code::kRange, "no"); }, coded.Done());
  executor->Submit(
      {}, [](RunContext&) { throw std::runtime_error("else"); }, other.Done());
  executor->Submit(
      {},
      [](RunContext& context) {
        ParallelFor(context.threads(), 1000, 1, [](int64_t begin, int64_t, int) {
          if (begin == 0) throw Error(Code::kShape, "in a team");
        });
      },
      memory.Done());
  CHECK(coded.Wait() == "ERR_RANGE");
  CHECK(other.Wait() == "else");
  CHECK(memory.Wait() == "ERR_SHAPE");
}

TEST(executor_close_waits_for_the_owners_jobs) {
  const auto executor = Executor::Acquire();
  const uint64_t mine = executor->OpenOwner();
  const uint64_t other = executor->OpenOwner();
  auto held = std::make_shared<int>(1);
  std::atomic<bool> running{false};
  Outcome run, queued, steps, late, theirs;
  executor->Submit(
      {nullptr, 0, mine},
      [&running, held](RunContext& context) {
        running = true;
        for (;;) context.Yield();
      },
      run.Done());
  executor->Submit(
      {nullptr, 0, mine}, [held](RunContext&) {}, queued.Done());
  executor->SubmitSteps(
      {nullptr, 0, mine}, [held](RunContext&) { return true; }, steps.Done());
  executor->Submit(
      {nullptr, 0, other}, [](RunContext&) {}, theirs.Done());
  SpinUntil(running);
  executor->Close(mine);
  CHECK(held.use_count() == 1);
  CHECK(run.Wait() == "ERR_ABORTED");
  CHECK(queued.Wait() == "ERR_ABORTED");
  CHECK(steps.Wait() == "ERR_ABORTED");
  CHECK(theirs.Wait() == "ok");
  executor->Submit(
      {nullptr, 0, mine}, [](RunContext&) {}, late.Done());
  CHECK(late.Wait() == "ERR_ABORTED");
  executor->Close(mine);
  executor->Close(other);
}

TEST(executor_starts_again_after_the_last_release) {
  for (int round = 0; round < 20; ++round) {
    const auto executor = Executor::Acquire();
    CHECK(executor == Executor::Acquire());
    executor->SetThreads(1 + round % 3);
    std::atomic<int> threads{0};
    std::atomic<int64_t> sum{0};
    Outcome run;
    executor->Submit(
        {},
        [&](RunContext& context) {
          threads = context.threads();
          ParallelFor(context.threads(), 1000, 10,
                      [&](int64_t begin, int64_t end, int) { sum += end - begin; });
        },
        run.Done());
    CHECK(run.Wait() == "ok");
    CHECK(threads == 1 + round % 3);
    CHECK(sum == 1000);
  }
}

TEST(executor_survives_many_submitters) {
  const auto executor = Executor::Acquire();
  std::atomic<int> ran{0};
  std::vector<std::thread> submitters;
  for (int t = 0; t < 4; ++t) {
    submitters.emplace_back([&, t] {
      const uint64_t owner = executor->OpenOwner();
      const auto token = std::make_shared<Token>();
      for (int i = 0; i < 500; ++i) {
        executor->Submit(
            {token, i % 2, owner}, [](RunContext& context) { context.Yield(); },
            [&](std::exception_ptr) { ++ran; });
        if (t == 0 && i == 250) token->Cancel();
      }
      executor->Close(owner);
    });
  }
  for (auto& submitter : submitters) submitter.join();
  CHECK(ran == 2000);
}

TEST(parallel_for_covers_every_element_once) {
  for (int threads : {1, 2, 3, 7}) {
    for (int64_t count : {0, 1, 5, 64, 65, 1000}) {
      for (int64_t grain : {1, 8, 64, 5000}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
        ParallelFor(threads, count, grain, [&](int64_t begin, int64_t end, int thread) {
          CHECK(begin % grain == 0);
          CHECK(thread >= 0);
          CHECK(thread < threads);
          for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
        });
        for (auto& times : seen) CHECK(times == 1);
      }
    }
  }
}

}  // namespace
}  // namespace losscape
