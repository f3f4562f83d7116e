// How many threads this process should use when nobody says.
#pragma once

#include <string>

namespace losscape {

// CPUs in the affinity mask, or what the control group's quota grants when that is less (rounded
// up); at least 1.
int DefaultThreads();

// CPUs that the CPU quotas of the control groups listed in `membership` (the content of
// /proc/self/cgroup) grant, the tightest of a group and its ancestors; infinity without a quota.
// Version 2 groups lie in `root`, version 1 groups in `root`/cpu or `root`/cpu,cpuacct.
double CgroupCpus(const std::string& membership, const std::string& root);

}  // namespace losscape
