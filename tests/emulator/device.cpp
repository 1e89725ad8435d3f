// A fake accelerator for torch: PrivateUse1 devices on host memory, every operation on the CPU.
//
// EMULATOR_DEVICES   how many devices there are (default 2)
// EMULATOR_MEMORY    bytes of each (default 1 GiB)
// EMULATOR_FAULTS    what is wrong, as `device:where:what[:operand]`, separated by `;`
//   where  h2d d2h d2d            a direction of copies
//          aten::mm, ...          an operation by its name; `*` is every one
//          alloc, synchronize     the allocator; waiting for the device
//   what   flip zero nan scale swap stale short     spoils what arrives or comes out
//          raise sticky hang abort segv             ends it; after `sticky` every later call raises
//          operand of scale: the factor; of raise and sticky: the text
//
// torch's own interface decides the names below; sources: c10/core/impl/DeviceGuardImplInterface.h,
// ATen/detail/PrivateUse1HooksInterface.h, ATen/native/CPUFallback.h.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/as_strided_cpu_dispatch.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/set_cpu_dispatch.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/extension.h>
#include <torch/library.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr auto kFake = c10::DeviceType::PrivateUse1;

size_t number(const char *name, size_t otherwise) {
  const char *text = std::getenv(name);
  return text && *text ? std::strtoull(text, nullptr, 10) : otherwise;
}

c10::DeviceIndex device_count() {
  static const auto count = static_cast<c10::DeviceIndex>(number("EMULATOR_DEVICES", 2));
  return count;
}

// ---- faults

struct Fault {
  int device;
  std::string where, what, operand;
};

std::vector<std::string> split(const std::string &text, char separator, size_t most = SIZE_MAX) {
  std::vector<std::string> parts;
  size_t begin = 0, end;
  while (parts.size() + 1 < most && (end = text.find(separator, begin)) != std::string::npos) {
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  parts.push_back(text.substr(begin));
  return parts;
}

const std::vector<Fault> &faults() {
  static const std::vector<Fault> all = [] {
    std::vector<Fault> found;
    const char *text = std::getenv("EMULATOR_FAULTS");
    if (!text || !*text) return found;
    for (std::string one : split(text, ';')) {
      // An operation's name has colons of its own: aten::mm
      for (size_t at; (at = one.find("::")) != std::string::npos;) one.replace(at, 2, "\x1f");
      auto parts = split(one, ':', 4);
      TORCH_CHECK(parts.size() >= 3, "EMULATOR_FAULTS: '", one, "' is not device:where:what");
      std::string where = parts[1];
      if (size_t at = where.find('\x1f'); at != std::string::npos) where.replace(at, 1, "::");
      found.push_back({std::atoi(parts[0].c_str()), where, parts[2], parts.size() > 3 ? parts[3] : ""});
    }
    return found;
  }();
  return all;
}

std::atomic<bool> poisoned[64];
std::string poison_text[64];

// Ends a call, or returns the fault that spoils its result.
const Fault *strike(int device, const std::string &where) {
  if (device >= 0 && poisoned[device]) TORCH_CHECK(false, poison_text[device]);
  for (const Fault &fault : faults()) {
    bool here = fault.where == where || (fault.where == "*" && where.rfind("aten::", 0) == 0);
    if (fault.device != device || !here) continue;
    if (fault.what == "hang") std::this_thread::sleep_for(std::chrono::hours(1));
    if (fault.what == "abort") std::abort();
    if (fault.what == "segv") *static_cast<volatile int *>(nullptr) = 0;
    if (fault.what == "sticky") {
      poison_text[device] = fault.operand;
      poisoned[device] = true;
    }
    if (fault.what == "sticky" || fault.what == "raise") TORCH_CHECK(false, fault.operand);
    return &fault;
  }
  return nullptr;
}

// Spoils contiguous bytes of elements of one type. `before` is what was there, for `stale`.
void spoil(const Fault &fault, char *bytes, size_t count, size_t itemsize, bool floating,
           c10::ScalarType type) {
  size_t size = count * itemsize;
  if (size == 0) return;
  if (fault.what == "flip") {
    bytes[(count / 2) * itemsize] ^= 0x08;
  } else if (fault.what == "zero") {
    std::memset(bytes, 0, size);
  } else if (fault.what == "short") {
    std::memset(bytes + size - itemsize, 0xAB, itemsize);
  } else if (fault.what == "swap" && count > 1) {
    std::vector<char> kept(bytes, bytes + itemsize);
    std::memcpy(bytes, bytes + size - itemsize, itemsize);
    std::memcpy(bytes + size - itemsize, kept.data(), itemsize);
  } else if ((fault.what == "nan" || fault.what == "scale") && floating) {
    auto view = at::from_blob(bytes, {static_cast<int64_t>(count)}, at::TensorOptions().dtype(type));
    if (fault.what == "nan") view[static_cast<int64_t>(count / 2)] = NAN;
    else view.mul_(std::atof(fault.operand.c_str()));
  }
}

void spoil(const Fault &fault, const at::Tensor &host) {
  if (!host.defined() || host.numel() == 0) return;
  auto packed = host.contiguous();
  spoil(fault, static_cast<char *>(packed.data_ptr()), packed.numel(), packed.element_size(),
        packed.is_floating_point(), packed.scalar_type());
  if (!packed.is_same(host)) host.copy_(packed);
}

// ---- memory and devices

thread_local c10::DeviceIndex current = 0;
std::atomic<size_t> taken[64];
std::mutex pinned_lock;
std::map<const char *, size_t> pinned;

struct Block {
  void *data;
  size_t size;
  c10::DeviceIndex device;
};

void free_block(void *context) {
  auto *block = static_cast<Block *>(context);
  taken[block->device] -= block->size;
  c10::free_cpu(block->data);
  delete block;
}

struct FakeAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    static const size_t most = number("EMULATOR_MEMORY", size_t(1) << 30);
    strike(current, "alloc");
    TORCH_CHECK_WITH(OutOfMemoryError, taken[current] + size <= most,
                     "emulator out of memory. Tried to allocate ", size, " bytes");
    taken[current] += size;
    void *data = size ? c10::alloc_cpu(size) : nullptr;
    auto *block = new Block{data, size, current};
    return {data, block, &free_block, c10::Device(kFake, current)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void *into, const void *from, size_t count) const override {
    std::memcpy(into, from, count);
  }
};
FakeAllocator allocator;
REGISTER_ALLOCATOR(kFake, &allocator);

void free_pinned(void *data) {
  std::lock_guard<std::mutex> guard(pinned_lock);
  pinned.erase(static_cast<const char *>(data));
  c10::free_cpu(data);
}

struct PinnedAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    void *data = size ? c10::alloc_cpu(size) : nullptr;
    if (data) {
      std::lock_guard<std::mutex> guard(pinned_lock);
      pinned[static_cast<const char *>(data)] = size;
    }
    return {data, data, &free_pinned, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_pinned; }
  void copy_data(void *into, const void *from, size_t count) const override {
    std::memcpy(into, from, count);
  }
};
PinnedAllocator pinned_allocator;

struct FakeGuard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kFake; }
  c10::Device exchangeDevice(c10::Device device) const override {
    auto old = current;
    current = device.index() < 0 ? current : device.index();
    return {kFake, old};
  }
  c10::Device getDevice() const override { return {kFake, current}; }
  void setDevice(c10::Device device) const override { uncheckedSetDevice(device); }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.index() >= 0) current = device.index();
  }
  c10::Stream getStream(c10::Device device) const override {
    auto index = device.index() < 0 ? current : device.index();
    return c10::Stream(c10::Stream::DEFAULT, c10::Device(kFake, index));
  }
  c10::Stream getDefaultStream(c10::Device device) const override { return getStream(device); }
  c10::Stream getNewStream(c10::Device device, int) const override { return getStream(device); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return device_count(); }
  // Everything is done when a call returns: streams and events have nothing to wait for.
  bool queryStream(const c10::Stream &) const override { return true; }
  void synchronizeStream(const c10::Stream &stream) const override {
    strike(stream.device_index(), "synchronize");
  }
  void synchronizeDevice(const c10::DeviceIndex index) const override {
    strike(index, "synchronize");
  }
  void record(void **event, const c10::Stream &, const c10::DeviceIndex,
              const c10::EventFlag) const override {
    static int any;
    *event = &any;
  }
  void block(void *, const c10::Stream &) const override {}
  bool queryEvent(void *) const override { return true; }
  void synchronizeEvent(void *) const override {}
  void destroyEvent(void *, const c10::DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, FakeGuard);

struct FakeGenerator final : at::CPUGeneratorImpl {
  explicit FakeGenerator(c10::DeviceIndex index) : at::CPUGeneratorImpl() {
    device_ = c10::Device(kFake, index);
    key_set_ = c10::DispatchKeySet(c10::DispatchKey::PrivateUse1);
  }
  static c10::DeviceType device_type() { return kFake; }
};

struct FakeHooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return device_count() > 0; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return device_count(); }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(c10::DeviceIndex index) const override { current = index; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override {
    std::swap(index, current);
    return index;
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override {
    return exchangeDevice(index);
  }
  const at::Generator &getDefaultGenerator(c10::DeviceIndex index) const override {
    static std::vector<at::Generator> all = [] {
      std::vector<at::Generator> made;
      for (c10::DeviceIndex i = 0; i < device_count(); i++)
        made.push_back(at::make_generator<FakeGenerator>(i));
      return made;
    }();
    return all.at(index < 0 ? current : index);
  }
  at::Generator getNewGenerator(c10::DeviceIndex index) const override {
    return at::make_generator<FakeGenerator>(index < 0 ? current : index);
  }
  bool isPinnedPtr(const void *data) const override {
    std::lock_guard<std::mutex> guard(pinned_lock);
    auto after = pinned.upper_bound(static_cast<const char *>(data));
    if (after == pinned.begin()) return false;
    auto [begin, size] = *std::prev(after);
    return static_cast<const char *>(data) < begin + size;
  }
  c10::Allocator *getPinnedMemoryAllocator() const override { return &pinned_allocator; }
  c10::Device getDeviceFromPtr(void *) const override { return {kFake, current}; }
  void resizePrivateUse1Bytes(const c10::Storage &storage, size_t size) const override {
    auto fresh = storage.allocator()->allocate(size);
    std::memcpy(fresh.get(), storage.data(), std::min(size, storage.nbytes()));
    storage.set_data_ptr(std::move(fresh));
    storage.set_nbytes(size);
  }
};

// ---- operations that only arrange memory

// The same memory as a tensor on the host.
at::Tensor on_host(const at::Tensor &tensor) {
  if (tensor.device().type() != kFake) return tensor;
  auto storage = c10::Storage(c10::Storage::use_byte_size_t(), tensor.storage().nbytes(),
                              c10::DataPtr(tensor.storage().mutable_data(), c10::kCPU),
                              c10::GetAllocator(c10::kCPU), false);
  auto host = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(c10::DispatchKey::CPU), tensor.dtype());
  host.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(),
                                                    tensor.storage_offset());
  if (tensor.is_conj()) host._set_conj(true);
  if (tensor.is_neg()) host._set_neg(true);
  return host;
}

at::Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  c10::DeviceGuard guard(device.value_or(c10::Device(kFake, current)));
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &allocator,
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
                         std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<at::Device> device, std::optional<bool>) {
  c10::DeviceGuard guard(device.value_or(c10::Device(kFake, current)));
  return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size),
                                           C10_AS_INTARRAYREF_SLOW(stride), &allocator,
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

at::Tensor as_strided(const at::Tensor &self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
                      std::optional<c10::SymInt> offset) {
  return at::cpu::as_strided_symint(self, size, stride, offset);
}

at::Tensor reshape_alias(const at::Tensor &self, c10::SymIntArrayRef size,
                         c10::SymIntArrayRef stride) {
  return at::native::_reshape_alias(self, C10_AS_INTARRAYREF_SLOW(size),
                                    C10_AS_INTARRAYREF_SLOW(stride));
}

at::Tensor view(const at::Tensor &self, c10::SymIntArrayRef size) {
  return at::native::view(self, C10_AS_INTARRAYREF_SLOW(size));
}

const at::Tensor &resize_(const at::Tensor &self, c10::SymIntArrayRef size,
                          std::optional<at::MemoryFormat> format) {
  return at::native::resize_(self, C10_AS_INTARRAYREF_SLOW(size), format);
}

at::Tensor &set_storage(at::Tensor &self, at::Storage source, c10::SymInt offset,
                        c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  return at::cpu::set__symint(self, source, offset, size, stride);
}

at::Tensor &set_tensor(at::Tensor &self, const at::Tensor &source) {
  return at::cpu::set_(self, source);
}

at::Scalar local_scalar_dense(const at::Tensor &self) {
  auto host = on_host(self).clone();
  if (const Fault *fault = strike(self.device().index(), "d2h")) spoil(*fault, host);
  return at::_local_scalar_dense(host);
}

// ---- copies

at::Tensor copy_from(const at::Tensor &from, const at::Tensor &into, bool) {
  bool off = from.device().type() == kFake, on = into.device().type() == kFake;
  auto index = on ? into.device().index() : from.device().index();
  const Fault *fault = strike(index, off && on ? "d2d" : on ? "h2d" : "d2h");
  if (fault && fault->what == "stale") return into;
  auto arrived = on_host(from).to(into.dtype()).expand(into.sizes()).clone();
  if (fault) spoil(*fault, arrived);
  on_host(into).copy_(arrived);
  return into;
}

at::Tensor copy_from_and_resize(const at::Tensor &from, const at::Tensor &into) {
  into.resize_(from.sizes());
  return copy_from(from, into, false);
}

// ---- everything else

int device_of(const c10::IValue &value) {
  if (value.isTensor() && value.toTensor().defined() && value.toTensor().device().type() == kFake)
    return value.toTensor().device().index();
  if (value.isTensorList())
    for (const at::Tensor &one : value.toTensorVector())
      if (one.defined() && one.device().type() == kFake) return one.device().index();
  if (value.isDevice() && value.toDevice().type() == kFake)
    return value.toDevice().index() < 0 ? current : value.toDevice().index();
  return -1;
}

void fallback(const c10::OperatorHandle &op, torch::jit::Stack *stack) {
  const auto &schema = op.schema();
  auto arguments = torch::jit::last(*stack, schema.arguments().size());
  int device = -1;
  for (size_t i = 0; i < arguments.size() && device < 0; i++) device = device_of(arguments[i]);
  const Fault *fault = strike(device, schema.name());
  at::native::cpu_fallback(op, stack);
  if (!fault || fault->what == "stale") return;
  for (const auto &value : torch::jit::last(*stack, schema.returns().size()))
    if (value.isTensor() && value.toTensor().defined()) {
      spoil(*fault, on_host(value.toTensor()));
      return;
    }
}

// torch sends a convolution of a device that it does not know here, where nothing falls back.

at::Tensor convolution(const at::Tensor &input, const at::Tensor &weight,
                       const std::optional<at::Tensor> &bias, c10::SymIntArrayRef stride,
                       c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed,
                       c10::SymIntArrayRef output_padding, c10::SymInt groups) {
  const Fault *fault = strike(input.device().index(), "aten::convolution");
  auto added = bias && bias->defined() ? std::optional<at::Tensor>(on_host(*bias)) : std::nullopt;
  auto out = at::convolution_symint(on_host(input), on_host(weight), added, stride, padding,
                                    dilation, transposed, output_padding, groups);
  if (fault) spoil(*fault, out);
  return out.to(input.device());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor &grad, const at::Tensor &input, const at::Tensor &weight,
    c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
    bool transposed, c10::SymIntArrayRef output_padding, c10::SymInt groups,
    std::array<bool, 3> wanted) {
  const Fault *fault = strike(input.device().index(), "aten::convolution_backward");
  auto bias_sizes = c10::SymIntArrayRef(grad.sym_sizes().begin() + 1, 1);
  auto [of_input, of_weight, of_bias] = at::convolution_backward_symint(
      on_host(grad), on_host(input), on_host(weight), bias_sizes, stride, padding, dilation,
      transposed, output_padding, groups, wanted);
  if (fault) spoil(*fault, wanted[0] ? of_input : of_weight);
  auto back = [&](const at::Tensor &one) { return one.defined() ? one.to(input.device()) : one; };
  return {back(of_input), back(of_weight), back(of_bias)};
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("as_strided", &as_strided);
  m.impl("_reshape_alias", &reshape_alias);
  m.impl("view", &view);
  m.impl("view.dtype", &at::native::view_dtype);
  m.impl("view_as_real", &at::native::view_as_real);
  m.impl("view_as_complex", &at::native::view_as_complex);
  m.impl("unfold", &at::native::unfold);
  m.impl("resize_", &resize_);
  m.impl("set_.source_Storage_storage_offset", &set_storage);
  m.impl("set_.source_Tensor", &set_tensor);
  m.impl("_local_scalar_dense", &local_scalar_dense);
  m.impl("convolution_overrideable", &convolution);
  m.impl("convolution_backward_overrideable", &convolution_backward);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
}

// A copy sees both bits itself; resolving them first would be a copy again, without an end.
TORCH_LIBRARY_IMPL(aten, Conjugate, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}
TORCH_LIBRARY_IMPL(aten, Negative, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

FakeHooks hooks;

} // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  at::RegisterPrivateUse1HooksInterface(&hooks);
  m.def("device_count", &device_count);
  m.def("current_device", [] { return current; });
  m.def("set_device", [](int index) { current = static_cast<c10::DeviceIndex>(index); });
  m.def("synchronize", [](int index) { strike(index < 0 ? current : index, "synchronize"); },
        py::call_guard<py::gil_scoped_release>());
  m.def("memory", [](int index) {
    size_t most = number("EMULATOR_MEMORY", size_t(1) << 30);
    return std::make_pair(most - taken[index], most);
  });
  m.def("default_generator", [](int index) { return hooks.getDefaultGenerator(index); });
}
