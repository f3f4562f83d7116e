#include "native/runtime/threads.h"

#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "native/test/test.h"

namespace losscape {
namespace {

namespace fs = std::filesystem;

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "losscape-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  void Write(const std::string& name, const std::string& text) const {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
  }
  std::string path() const { return path_.string(); }

 private:
  fs::path path_;
};

TEST(threads_default_is_within_the_affinity_mask) {
  cpu_set_t mask;
  CHECK(sched_getaffinity(0, sizeof mask, &mask) == 0);
  CHECK(DefaultThreads() >= 1);
  CHECK(DefaultThreads() <= CPU_COUNT(&mask));
}

TEST(threads_default_follows_the_affinity_of_the_caller) {
  int threads = 0;
  std::thread pinned([&] {
    cpu_set_t mask;
    sched_getaffinity(0, sizeof mask, &mask);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &mask)) ++cpu;
    CPU_ZERO(&mask);
    CPU_SET(cpu, &mask);
    sched_setaffinity(0, sizeof mask, &mask);
    threads = DefaultThreads();
  });
  pinned.join();
  CHECK(threads == 1);
}

TEST(threads_cgroup_version_2_takes_the_tightest_ancestor) {
  const TemporaryFolder root;
  root.Write("a/cpu.max", "150000 100000\n");
  root.Write("a/b/cpu.max", "max 100000\n");
  CHECK_NEAR(CgroupCpus("0::/a/b\n", root.path()), 1.5, 1e-12);
  root.Write("a/b/cpu.max", "50000 100000\n");
  CHECK_NEAR(CgroupCpus("0::/a/b\n", root.path()), 0.5, 1e-12);
}

TEST(threads_cgroup_version_1_reads_the_cpu_controller) {
  const TemporaryFolder root;
  root.Write("cpu/job/cpu.cfs_quota_us", "300000\n");
  root.Write("cpu/job/cpu.cfs_period_us", "100000\n");
  root.Write("cpu,cpuacct/other/cpu.cfs_quota_us", "-1\n");
  root.Write("cpu,cpuacct/other/cpu.cfs_period_us", "100000\n");
  CHECK_NEAR(CgroupCpus("5:cpuset:/job\n2:cpu:/job\n", root.path()), 3, 1e-12);
  CHECK(std::isinf(CgroupCpus("2:cpu,cpuacct:/other\n", root.path())));
  CHECK(std::isinf(CgroupCpus("2:cpuacct:/job\n", root.path())));
}

TEST(threads_cgroup_of_the_host_falls_back_to_the_mounted_root) {
  const TemporaryFolder root;
  root.Write("cpu.max", "200000 100000\n");
  CHECK_NEAR(CgroupCpus("0::/docker/0123\n", root.path()), 2, 1e-12);
}

TEST(threads_cgroup_ignores_what_it_cannot_read) {
  const TemporaryFolder root;
  root.Write("a/cpu.max", "plenty\n");
  CHECK(std::isinf(CgroupCpus("0::/a\n", root.path())));
  CHECK(std::isinf(CgroupCpus("not a line\n\n::\n", root.path())));
  CHECK(std::isinf(CgroupCpus("", root.path())));
}

}  // namespace
}  // namespace losscape
