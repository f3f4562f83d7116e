#include "native/runtime/kernel.h"

#include "native/runtime/error.h"

namespace losscape {

namespace {

std::map<std::string, KernelFactory>& Registry() {
  static auto* registry = new std::map<std::string, KernelFactory>;
  return *registry;
}

template <class Map>
const typename Map::mapped_type& Attribute(const OpSpec& op, const Map& map,
                                           const std::string& key) {
  const auto found = map.find(key);
  if (found == map.end()) {
    throw Error(Code::kProgram, "Operation ", op.name, ": expected the attribute ", key,
                ", found none.");
  }
  return found->second;
}

}  // namespace

double OpSpec::Number(const std::string& key) const {
  const std::vector<double>& values = Numbers(key);
  if (values.size() != 1) {
    throw Error(Code::kProgram, "Operation ", name, ": expected one number in ", key, ", got ",
                values.size(), ".");
  }
  return values[0];
}

double OpSpec::Number(const std::string& key, double fallback) const {
  return numbers.count(key) ? Number(key) : fallback;
}

const std::vector<double>& OpSpec::Numbers(const std::string& key) const {
  return Attribute(*this, numbers, key);
}

const std::string& OpSpec::String(const std::string& key) const {
  const std::vector<std::string>& values = Attribute(*this, strings, key);
  if (values.size() != 1) {
    throw Error(Code::kProgram, "Operation ", name, ": expected one string in ", key, ", got ",
                values.size(), ".");
  }
  return values[0];
}

KernelRegistration::KernelRegistration(const char* name, KernelFactory factory) {
  Registry()[name] = factory;
}

std::unique_ptr<Kernel> MakeKernel(const OpSpec& op) {
  const auto found = Registry().find(op.name);
  if (found == Registry().end()) {
    std::string known;
    for (const std::string& name : KernelNames()) known += (known.empty() ? "" : ", ") + name;
    throw Error(Code::kProgram, "Expected an operation with a kernel, got ", op.name,
                ". Known: ", known, ".");
  }
  return found->second(op);
}

std::vector<std::string> KernelNames() {
  std::vector<std::string> names;
  for (const auto& entry : Registry()) names.push_back(entry.first);
  return names;
}

}  // namespace losscape
