// Faults of the fake accelerator, set by an environment variable.
//
// EMULATOR_FAULTS   `device:where:what[:operand][@when]`, several separated by `;`
//   where  h2d d2h d2d            a direction of copies
//          aten::mm, ...          an operation by its name, forward or backward; `*` is each one.
//                                 Composite operations (aten::linear) are not available
//          alloc, synchronize     the allocator; waiting for the device
//   what   flip zero nan scale swap stale short     changes a copy or a result
//          raise sticky full hang hang_gil abort segv exit    ends the call; after `sticky` every
//          later call raises
//          operand of scale: the factor; of raise and sticky: the text; of full (alloc only): the
//          memory of the device in bytes
//   when   first, every=N, after=N (calls of this process), large=N (elements), dtype=Float
//          (torch's C++ name of the type); by default always
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/utils/pybind.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace emulator {

constexpr int kMaxDevices = 64;

inline size_t number(const char *name, size_t otherwise) {
  const char *text = std::getenv(name);
  return text && *text ? std::strtoull(text, nullptr, 10) : otherwise;
}

struct Fault {
  int device;
  std::string where, what, operand;
  std::string when, bound; // `every` and `7`
  size_t limit = 0;        // the bound as a number
  std::atomic<size_t> calls{0};
  std::mutex lock;
  std::vector<char> last; // the previous result, for `stale`

  bool due(size_t elements, const char *dtype) {
    if (when == "large") return elements >= limit;
    if (when == "dtype") return bound == dtype;
    size_t call = ++calls;
    if (when == "first") return call == 1;
    if (when == "every") return call % limit == 0;
    if (when == "after") return call > limit;
    return true;
  }
};

// Whether a device runs an operation of that name; a fault of any other would have no effect.
inline bool runs(const std::string &operation) {
  if (operation == "aten::convolution" || operation == "aten::convolution_backward") return true;
  auto &dispatcher = c10::Dispatcher::singleton();
  for (const auto &name : dispatcher.getAllOpNames())
    if (name.name == operation)
      if (auto op = dispatcher.findOp(name);
          op && op->hasKernelForDispatchKey(c10::DispatchKey::CPU))
        return true;
  return false;
}

// Parses one fault and appends it.
inline void add(std::deque<Fault> &all, std::string text) {
  static const std::set<std::string> places = {"h2d", "d2h", "d2d", "alloc", "synchronize", "*"};
  static const std::set<std::string> kinds = {
      "flip",   "zero", "nan",  "scale",    "swap",  "stale", "short", "raise",
      "sticky", "full", "hang", "hang_gil", "abort", "segv",  "exit"};
  const std::string whole = text;
  Fault &fault = all.emplace_back();
  if (size_t at = text.rfind('@'); at != std::string::npos) {
    std::string when = text.substr(at + 1);
    text.resize(at);
    size_t equals = when.find('=');
    fault.when = when.substr(0, equals);
    if (equals != std::string::npos) fault.bound = when.substr(equals + 1);
    fault.limit = std::strtoull(fault.bound.c_str(), nullptr, 10);
    bool counted = fault.when == "every" || fault.when == "after" || fault.when == "large";
    TORCH_CHECK(fault.when == "first" || fault.when == "dtype" || (counted && fault.limit > 0),
                "EMULATOR_FAULTS: '@", when, "' is no time");
  }
  size_t first = text.find(':');
  fault.device = std::atoi(text.c_str());
  // An operation's name has colons of its own: aten::mm
  size_t from = text.compare(first + 1, 6, "aten::") == 0 ? first + 7 : first + 1;
  size_t second = text.find(':', from);
  TORCH_CHECK(first != std::string::npos && second != std::string::npos, "EMULATOR_FAULTS: '",
              whole, "' is not device:where:what");
  fault.where = text.substr(first + 1, second - first - 1);
  TORCH_CHECK(places.count(fault.where) || runs(fault.where), "EMULATOR_FAULTS: no device runs '",
              fault.where, "' by that name");
  size_t third = text.find(':', second + 1);
  fault.what = text.substr(second + 1, third == std::string::npos ? third : third - second - 1);
  if (third != std::string::npos) fault.operand = text.substr(third + 1);
  TORCH_CHECK(kinds.count(fault.what), "EMULATOR_FAULTS: '", fault.what, "' is no fault");
}

// Reads the variable at the first call, so that a child process can have other faults.
inline std::deque<Fault> &faults() {
  static std::deque<Fault> all = [] {
    std::deque<Fault> found;
    const char *given = std::getenv("EMULATOR_FAULTS");
    std::string text = given ? given : "";
    for (size_t begin = 0, end; begin < text.size(); begin = end + 1) {
      end = std::min(text.find(';', begin), text.size());
      add(found, text.substr(begin, end - begin));
    }
    return found;
  }();
  return all;
}

inline std::mutex poison_lock;
inline std::string poison_text[kMaxDevices]; // error of every call on that device; empty: no error

[[noreturn]] inline void hang() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

// Ends the call, or returns the fault that changes its result; nullptr without a fault.
inline Fault *inject(int device, const std::string &where, size_t elements = 0,
                     const char *dtype = "") {
  if (faults().empty() || device < 0) return nullptr;
  {
    std::lock_guard<std::mutex> guard(poison_lock);
    if (!poison_text[device].empty()) TORCH_CHECK(false, poison_text[device]);
  }
  for (Fault &fault : faults()) {
    bool here = fault.where == where || (fault.where == "*" && where.rfind("aten::", 0) == 0);
    if (fault.device != device || !here || fault.what == "full") continue;
    if (!fault.due(elements, dtype)) continue;
    if (fault.what == "hang") hang();
    if (fault.what == "hang_gil") {
      pybind11::gil_scoped_acquire held;
      hang();
    }
    if (fault.what == "abort") std::abort();
    if (fault.what == "segv") *static_cast<volatile int *>(nullptr) = 0;
    if (fault.what == "exit") std::_Exit(0);
    if (fault.what == "sticky") {
      std::lock_guard<std::mutex> guard(poison_lock);
      poison_text[device] = fault.operand.empty() ? "the device is lost" : fault.operand;
      TORCH_CHECK(false, poison_text[device]);
    }
    if (fault.what == "raise") TORCH_CHECK(false, fault.operand);
    return &fault;
  }
  return nullptr;
}

// Changes a tensor on the host, the result of an operation or copy.
inline void spoil(Fault &fault, const at::Tensor &host) {
  if (!host.defined() || host.numel() == 0) return;
  auto packed = host.contiguous();
  auto *bytes = static_cast<char *>(packed.data_ptr());
  size_t count = packed.numel(), item = packed.element_size(), size = count * item;
  bool number = packed.is_floating_point() || packed.is_complex();
  if (fault.what == "flip") {
    bytes[(count / 2) * item] ^= packed.scalar_type() == at::kBool ? 1 : 8;
  } else if (fault.what == "zero") {
    std::memset(bytes, 0, size);
  } else if (fault.what == "short") {
    std::memset(bytes + size - item, 0xAB, item);
  } else if (fault.what == "swap") {
    std::swap_ranges(bytes, bytes + item, bytes + size - item);
  } else if (fault.what == "nan" && number) {
    packed.view({-1})[static_cast<int64_t>(count / 2)].fill_(NAN);
  } else if (fault.what == "scale" && number) {
    packed.mul_(std::atof(fault.operand.c_str()));
  } else if (fault.what == "stale") {
    std::lock_guard<std::mutex> guard(fault.lock);
    std::vector<char> fresh(bytes, bytes + size);
    if (fault.last.size() == size) std::memcpy(bytes, fault.last.data(), size);
    fault.last.swap(fresh);
  }
  if (!packed.is_same(host)) host.copy_(packed);
}

} // namespace emulator
