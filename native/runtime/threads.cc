#include "native/runtime/threads.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <thread>
#include <vector>

namespace losscape {
namespace {

constexpr double kUnlimited = std::numeric_limits<double>::infinity();

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// quota / period; "max" and -1 mean no limit, a missing file reads as empty.
double Ratio(const std::string& quota_and_period) {
  std::istringstream text(quota_and_period);
  double quota = 0, period = 0;
  if (!(text >> quota >> period) || quota <= 0 || period <= 0) return kUnlimited;
  return quota / period;
}

double GroupCpus(const std::string& directory, bool version2) {
  if (version2) return Ratio(ReadFile(directory + "/cpu.max"));
  return Ratio(ReadFile(directory + "/cpu.cfs_quota_us") + " " +
               ReadFile(directory + "/cpu.cfs_period_us"));
}

// Inside a container the listed path is often the host's: the mount then shows our group at its
// root, which the walk ends with.
double TightestCpus(const std::string& root, std::string group, bool version2) {
  double cpus = kUnlimited;
  while (true) {
    while (!group.empty() && group.back() == '/') group.pop_back();
    cpus = std::min(cpus, GroupCpus(root + group, version2));
    if (group.empty()) return cpus;
    group.erase(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
  }
}

bool HasCpuController(const std::string& controllers) {
  std::istringstream list(controllers);
  for (std::string name; std::getline(list, name, ',');) {
    if (name == "cpu") return true;
  }
  return false;
}

int AffinityCpus() {
  // The kernel refuses a mask smaller than its own, so grow until it fits.
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
    std::vector<cpu_set_t> mask(static_cast<size_t>(cpus) / CPU_SETSIZE);
    const size_t bytes = mask.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, mask.data()) == 0) return CPU_COUNT_S(bytes, mask.data());
  }
  return static_cast<int>(std::thread::hardware_concurrency());
}

}  // namespace

double CgroupCpus(const std::string& membership, const std::string& root) {
  double cpus = kUnlimited;
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {
    // hierarchy-ID:controllers:path
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      cpus = std::min(cpus, TightestCpus(root, group, true));
    } else if (HasCpuController(controllers)) {
      cpus = std::min(cpus, TightestCpus(root + "/cpu", group, false));
      cpus = std::min(cpus, TightestCpus(root + "/cpu,cpuacct", group, false));
    }
  }
  return cpus;
}

int DefaultThreads() {
  const int affinity = std::max(1, AffinityCpus());
  const double quota = std::ceil(CgroupCpus(ReadFile("/proc/self/cgroup"), "/sys/fs/cgroup"));
  return quota < affinity ? std::max(1, static_cast<int>(quota)) : affinity;
}

}  // namespace losscape
