// A fake accelerator for torch: PrivateUse1 devices on host memory, every operation on the CPU.
//
// memory.h and faults.h list the environment variables. An operation runs as the CPU's kernel on
// tensors that share the device's memory, so its writes change the device. New results become
// memory of the device without a copy.
//
// The names below are those of torch's interface. Sources:
// c10/core/impl/DeviceGuardImplInterface.h, ATen/detail/PrivateUse1HooksInterface.h,
// ATen/native/CPUFallback.cpp.
#include "memory.h"

#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_cpu_dispatch.h>
#include <ATen/ops/set_cpu_dispatch.h>
#include <ATen/ops/view_native.h>
#include <torch/library.h>

#include <malloc.h>

using namespace emulator;

namespace {

REGISTER_ALLOCATOR(kFake, &allocator);
C10_REGISTER_GUARD_IMPL(PrivateUse1, FakeGuard);

bool is_fake(const at::Tensor &tensor) {
  return tensor.defined() && tensor.device().type() == kFake;
}

// ---- the two sides of one memory

at::Tensor same_shape(c10::Storage storage, c10::DispatchKey key, const at::Tensor &like) {
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(std::move(storage),
                                                         c10::DispatchKeySet(key), like.dtype());
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(),
                                                      like.storage_offset());
  if (like.is_conj()) tensor._set_conj(true);
  if (like.is_neg()) tensor._set_neg(true);
  return tensor;
}

// Memory of a device as storage of the host. A kernel that needs more allocates new memory.
c10::Storage on_host(const c10::Storage &storage) {
  return c10::Storage(c10::Storage::use_byte_size_t(), storage.nbytes(),
                      c10::DataPtr(storage.mutable_data(), c10::kCPU),
                      c10::GetAllocator(c10::kCPU), true);
}

at::Tensor on_host(const at::Tensor &tensor) {
  if (!is_fake(tensor)) return tensor;
  return same_shape(on_host(tensor.storage()), c10::DispatchKey::CPU, tensor);
}

// Memory of the host as memory of a device.
c10::Storage on_device(const c10::Storage &host, c10::DeviceIndex device) {
  take(device, host.nbytes());
  auto *kept = new c10::Storage(host);
  auto held = c10::DataPtr(host.mutable_data(), kept,
                           [](void *one) { delete static_cast<c10::Storage *>(one); }, c10::kCPU);
  return c10::Storage(c10::Storage::use_byte_size_t(), host.nbytes(),
                      block(std::move(held), host.nbytes(), device), &allocator, true);
}

// ---- memory and how it is arranged

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

at::Tensor &set_part(at::Tensor &self, at::Storage source, c10::SymInt offset,
                     c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  return at::cpu::set__symint(self, source, offset, size, stride);
}

at::Tensor &set_storage(at::Tensor &self, at::Storage source) {
  auto count = static_cast<int64_t>(source.nbytes() / self.element_size());
  return at::cpu::set_(self, source, 0, {count}, {});
}

at::Tensor &set_tensor(at::Tensor &self, const at::Tensor &source) {
  return at::cpu::set_(self, source);
}

at::Tensor &set_nothing(at::Tensor &self) {
  c10::DeviceGuard guard(self.device());
  c10::Storage none(c10::Storage::use_byte_size_t(), 0, &allocator, true);
  return at::cpu::set_(self, none, 0, {0}, {});
}

// ---- copies

at::Scalar local_scalar_dense(const at::Tensor &self) {
  auto host = on_host(self);
  if (Fault *fault = inject(self.device().index(), "d2h", 1, c10::toString(self.scalar_type()))) {
    host = host.clone();
    spoil(*fault, host);
  }
  return at::_local_scalar_dense(host);
}

at::Tensor copy_from(const at::Tensor &from, const at::Tensor &into, bool) {
  bool off = is_fake(from), on = is_fake(into);
  auto index = on ? into.device().index() : from.device().index();
  Fault *fault = inject(index, off && on ? "d2d" : on ? "h2d" : "d2h", into.numel(),
                        c10::toString(into.scalar_type()));
  if (fault && fault->what == "stale") return into; // nothing arrives
  auto there = on_host(into);
  there.copy_(on_host(from));
  if (fault) spoil(*fault, there);
  return into;
}

at::Tensor copy_from_and_resize(const at::Tensor &from, const at::Tensor &into) {
  into.resize_(from.sizes());
  return copy_from(from, into, false);
}

// ---- everything else

// One call of an operation: its device, and each tensor argument on the device and on the host.
class Call {
public:
  explicit Call(const c10::OperatorHandle &op) : name(op.schema().name()) {}

  void find_device(const c10::IValue &value) {
    auto look = [&](const at::Tensor &one) {
      if (!one.defined()) return;
      if (!is_fake(one)) {
        foreign |= one.dim() > 0;
        return;
      }
      if (tensors_on >= 0 && tensors_on != one.device().index())
        TORCH_CHECK(false, "Expected all tensors to be on the same device, but found at least two "
                           "devices, fake:", int(tensors_on), " and ", one.device(), "! (", name,
                    ")");
      device = tensors_on = one.device().index();
      elements = std::max<size_t>(elements, one.numel());
      dtype = c10::toString(one.scalar_type());
    };
    if (value.isTensor()) look(value.toTensor());
    else if (value.isTensorList())
      for (const at::Tensor &one : value.toTensorVector()) look(one);
    else if (value.isOptionalTensorList()) { // indices may be on the host
      for (const std::optional<at::Tensor> &one : value.toOptionalTensorVector())
        if (one && is_fake(*one)) look(*one);
    } else if (value.isDevice() && value.toDevice().type() == kFake && device < 0)
      device = value.toDevice().index() < 0 ? current : value.toDevice().index();
    else if (value.isGenerator() && value.toGenerator().device().type() == kFake && device < 0)
      device = value.toGenerator().device().index();
  }

  void refuse_foreign() const {
    // These operations accept lengths on the host.
    static const char *allowed[] = {"aten::_pack_padded_sequence", "aten::_ctc_loss",
                                   "aten::_ctc_loss_backward", "aten::segment_reduce"};
    for (const char *one : allowed)
      if (name == one) return;
    TORCH_CHECK(!(foreign && tensors_on >= 0),
                "Expected all tensors to be on the same device, but found at least two devices, "
                "fake:", int(tensors_on), " and cpu! (", name, ")");
  }

  at::Tensor host(const at::Tensor &tensor) {
    if (!is_fake(tensor)) return tensor;
    for (auto &[there, here] : tensors)
      if (there.is_same(tensor)) return here;
    auto here = same_shape(host(tensor.storage()), c10::DispatchKey::CPU, tensor);
    tensors.emplace_back(tensor, here);
    return here;
  }

  c10::Storage host(const c10::Storage &storage) {
    if (storage.device().type() != kFake) return storage;
    for (auto &[there, here] : storages)
      if (there.is_alias_of(storage)) return here;
    storages.emplace_back(storage, on_host(storage));
    return storages.back().second;
  }

  at::Generator host(const at::Generator &generator) {
    if (!generator.defined() || generator.device().type() != kFake) return generator;
    return static_cast<FakeGenerator *>(generator.unsafeGetGeneratorImpl())->host;
  }

  c10::IValue host(const c10::IValue &value) {
    if (value.isTensor()) return host(value.toTensor());
    if (value.isTensorList()) {
      c10::List<at::Tensor> all;
      for (const at::Tensor &one : value.toTensorVector()) all.push_back(host(one));
      return all;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> all;
      for (const std::optional<at::Tensor> &one : value.toOptionalTensorVector())
        all.push_back(one ? std::optional<at::Tensor>(host(*one)) : std::nullopt);
      return all;
    }
    if (value.isStorage()) return host(value.toStorage());
    if (value.isGenerator()) return host(value.toGenerator());
    if (value.isDevice() && value.toDevice().type() == kFake) return c10::Device(c10::kCPU);
    return value;
  }

  // The tensor that a fault changes: the first result or, without one, the first argument.
  at::Tensor first_result(c10::ArrayRef<c10::IValue> results) const {
    for (const auto &value : results) {
      if (value.isTensor() && value.toTensor().defined()) return value.toTensor();
      if (value.isTensorList() && !value.toTensorVector().empty()) return value.toTensorVector()[0];
    }
    return results.empty() && !tensors.empty() ? tensors[0].second : at::Tensor();
  }

  // Copies other sizes and more memory, which a kernel gave to its arguments, to the device.
  void update_arguments() {
    for (auto &[there, here] : storages) {
      if (here.nbytes() > there.nbytes()) hooks.resizePrivateUse1Bytes(there, here.nbytes());
      if (here.data() != there.data() && here.nbytes())
        std::memcpy(there.mutable_data(), here.data(), here.nbytes());
    }
    for (auto &[there, here] : tensors) {
      if (here.sizes() == there.sizes() && here.strides() == there.strides()) continue;
      there.unsafeGetTensorImpl()->set_sizes_and_strides(here.sizes(), here.strides(),
                                                         here.storage_offset());
    }
  }

  at::Tensor back(const at::Tensor &result) {
    if (!result.defined() || result.device().type() != c10::DeviceType::CPU) return result;
    for (auto &[there, here] : tensors)
      if (here.is_same(result)) return there;
    for (auto &[there, here] : storages)
      if (here.is_alias_of(result.storage()))
        return same_shape(there, c10::DispatchKey::PrivateUse1, result);
    storages.emplace_back(on_device(result.storage(), device), result.storage());
    return same_shape(storages.back().first, c10::DispatchKey::PrivateUse1, result);
  }

  c10::IValue back(const c10::IValue &value) {
    if (value.isTensor()) return back(value.toTensor());
    if (!value.isTensorList()) return value;
    c10::List<at::Tensor> all;
    for (const at::Tensor &one : value.toTensorVector()) all.push_back(back(one));
    return all;
  }

  std::string name;
  c10::DeviceIndex device = -1, tensors_on = -1;
  bool foreign = false;
  size_t elements = 0;
  const char *dtype = "";

private:
  std::vector<std::pair<at::Tensor, at::Tensor>> tensors;      // on the device, on the host
  std::vector<std::pair<c10::Storage, c10::Storage>> storages; // same
};

std::recursive_mutex random_lock;

// Runs a random kernel without a generator argument: the CPU's generator gets the device's state.
void run_random(const c10::OperatorHandle &op, torch::jit::Stack *stack,
                const at::Generator &generator) {
  auto lent = at::globalContext().defaultGenerator(c10::kCPU);
  std::lock_guard<std::recursive_mutex> guard(random_lock);
  auto kept = lent.get_state();
  lent.set_state(generator.get_state());
  auto give_back = [&] {
    const_cast<at::Generator &>(generator).set_state(lent.get_state());
    lent.set_state(kept);
  };
  try {
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  } catch (...) {
    give_back();
    throw;
  }
  give_back();
}

void fallback(const c10::OperatorHandle &op, torch::jit::Stack *stack) {
  const auto &schema = op.schema();
  const size_t count = schema.arguments().size();
  const size_t begin = stack->size() - count;
  Call call(op);
  for (size_t i = 0; i < count; i++) call.find_device((*stack)[begin + i]);
  call.refuse_foreign();
  Fault *fault = inject(call.device, call.name, call.elements, call.dtype);
  c10::OptionalDeviceGuard guard;
  if (call.device >= 0) guard.reset_device(c10::Device(kFake, call.device));

  bool given_generator = false;
  for (size_t i = 0; i < count; i++) {
    auto &value = (*stack)[begin + i];
    const auto &type = schema.arguments()[i].type();
    bool takes = type->isSubtypeOf(*c10::OptionalType::create(c10::GeneratorType::get()));
    given_generator |= takes;
    if (takes && value.isNone() && call.device >= 0)
      value = c10::IValue(hooks.getDefaultGenerator(call.device));
    value = call.host(value);
  }
  if (call.device >= 0 && !given_generator && op.hasTag(at::Tag::nondeterministic_seeded))
    run_random(op, stack, hooks.getDefaultGenerator(call.device));
  else
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);

  const size_t returned = stack->size() - begin;
  if (fault) spoil(*fault, call.first_result(torch::jit::last(*stack, returned)));
  if (call.device < 0) return;
  call.update_arguments();
  for (size_t i = 0; i < returned; i++) (*stack)[begin + i] = call.back((*stack)[begin + i]);
}

// torch calls these for a convolution on an unknown device; the fallback does not get it.

at::Tensor to_device(const at::Tensor &host, c10::DeviceIndex device) {
  if (!host.defined()) return host;
  return same_shape(on_device(host.storage(), device), c10::DispatchKey::PrivateUse1, host);
}

void same_device(const at::Tensor &one, const at::Tensor &other) {
  TORCH_CHECK(one.device() == other.device(),
              "Expected all tensors to be on the same device, but found at least two devices, ",
              one.device(), " and ", other.device(), "!");
}

at::Tensor convolution(const at::Tensor &input, const at::Tensor &weight,
                       const std::optional<at::Tensor> &bias, c10::SymIntArrayRef stride,
                       c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed,
                       c10::SymIntArrayRef output_padding, c10::SymInt groups) {
  same_device(input, weight);
  auto device = input.device().index();
  Fault *fault = inject(device, "aten::convolution", input.numel(),
                        c10::toString(input.scalar_type()));
  auto added = bias && bias->defined() ? std::optional<at::Tensor>(on_host(*bias)) : std::nullopt;
  auto out = at::convolution_symint(on_host(input), on_host(weight), added, stride, padding,
                                    dilation, transposed, output_padding, groups);
  if (fault) spoil(*fault, out);
  return to_device(out, device);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor &grad, const at::Tensor &input, const at::Tensor &weight,
    c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
    bool transposed, c10::SymIntArrayRef output_padding, c10::SymInt groups,
    std::array<bool, 3> wanted) {
  same_device(input, weight);
  auto device = input.device().index();
  Fault *fault = inject(device, "aten::convolution_backward", input.numel(),
                        c10::toString(input.scalar_type()));
  auto bias_sizes = c10::SymIntArrayRef(grad.sym_sizes().begin() + 1, 1);
  auto [of_input, of_weight, of_bias] = at::convolution_backward_symint(
      on_host(grad), on_host(input), on_host(weight), bias_sizes, stride, padding, dilation,
      transposed, output_padding, groups, wanted);
  if (fault) spoil(*fault, wanted[0] ? of_input : of_weight);
  return {to_device(of_input, device), to_device(of_weight, device), to_device(of_bias, device)};
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
  m.impl("resize_", &resize_);
  m.impl("set_", &set_nothing);
  m.impl("set_.source_Storage", &set_storage);
  m.impl("set_.source_Storage_storage_offset", &set_part);
  m.impl("set_.source_Tensor", &set_tensor);
  m.impl("_local_scalar_dense", &local_scalar_dense);
  m.impl("convolution_overrideable", &convolution);
  m.impl("convolution_backward_overrideable", &convolution_backward);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  // For these torch has its own kernels for any device, which call the variant with `out`. They
  // would raise for a reduced loss that its output has the wrong size.
  const auto alias = c10::DispatchKey::CompositeExplicitAutogradNonFunctional;
  auto &dispatcher = c10::Dispatcher::singleton();
  for (const auto &name : dispatcher.getAllOpNames()) {
    auto op = dispatcher.findOp(name);
    if (!op || !op->hasKernelForDispatchKey(alias)) continue;
    if (!op->hasKernelForDispatchKey(c10::DispatchKey::CPU) || name.name.rfind("aten::", 0) != 0)
      continue;
    auto full = name.name.substr(6) + (name.overload_name.empty() ? "" : "." + name.overload_name);
    m.impl(full.c_str(), torch::CppFunction::makeFromBoxedFunction<&fallback>());
  }
}

// A copy handles both bits itself; resolving them first would copy again, endlessly.
TORCH_LIBRARY_IMPL(aten, Conjugate, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}
TORCH_LIBRARY_IMPL(aten, Negative, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

// Operations that autocast runs in lower precision or in float32; a few are enough for the tests.
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }
TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  using namespace at::autocast;
  KERNEL_PRIVATEUSEONE(mm, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(matmul, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(linear, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(mse_loss, fp32)
}

} // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  // Freed memory stays in the process, as in the caching allocators of real back-ends: new pages
  // are slow, and a reused block still has its old contents.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  at::RegisterPrivateUse1HooksInterface(&hooks);
  m.def("device_count", &device_count);
  m.def("current_device", [] { return current; });
  m.def("set_device", [](int index) { current = static_cast<c10::DeviceIndex>(index); });
  m.def("synchronize", [](int index) { inject(index < 0 ? current : index, "synchronize"); },
        py::call_guard<py::gil_scoped_release>());
  m.def("memory", [](int index) {
    size_t most = memory_of(index);
    return std::make_pair(most - std::min<size_t>(most, taken[index]), most);
  });
  m.def("default_generator", [](int index) { return hooks.getDefaultGenerator(index); });
}
