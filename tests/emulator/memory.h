// Devices of the fake accelerator: their memory, streams, events and generators.
//
// EMULATOR_DEVICES   number of devices (default 2)
// EMULATOR_MEMORY    bytes of each device (default 1 GiB)
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>

#include <map>

#include "faults.h"

namespace emulator {

constexpr auto kFake = c10::DeviceType::PrivateUse1;

inline c10::DeviceIndex device_count() {
  static const auto count = static_cast<c10::DeviceIndex>(
      std::min<size_t>(number("EMULATOR_DEVICES", 2), kMaxDevices));
  return count;
}

inline thread_local c10::DeviceIndex current = 0;
inline std::atomic<size_t> taken[kMaxDevices];

inline size_t memory_of(c10::DeviceIndex device) {
  static const size_t most = number("EMULATOR_MEMORY", size_t(1) << 30);
  for (const Fault &fault : faults())
    if (fault.device == device && fault.where == "alloc" && fault.what == "full")
      return std::strtoull(fault.operand.c_str(), nullptr, 10);
  return most;
}

// Counts memory of a device as taken, until its Block is deleted.
inline void take(c10::DeviceIndex device, size_t size) {
  inject(device, "alloc", size);
  size_t most = memory_of(device);
  TORCH_CHECK_WITH(OutOfMemoryError, taken[device] + size <= most,
                   "Emulator out of memory. Tried to allocate ", size, " bytes. fake:", int(device),
                   " has a total capacity of ", most, " bytes of which ",
                   most - std::min<size_t>(most, taken[device]), " bytes are free.");
  taken[device] += size;
}

// Memory of a device; `held` owns it: a block of the host, or the storage of a result.
struct Block {
  c10::DataPtr held;
  size_t size;
  c10::DeviceIndex device;
  ~Block() { taken[device] -= size; }
};

inline c10::DataPtr block(c10::DataPtr held, size_t size, c10::DeviceIndex device) {
  void *data = held.get();
  return {data, new Block{std::move(held), size, device},
          [](void *context) { delete static_cast<Block *>(context); }, c10::Device(kFake, device)};
}

struct FakeAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    take(current, size);
    return block(c10::GetAllocator(c10::kCPU)->allocate(size), size, current);
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void *into, const void *from, size_t count) const override {
    std::memcpy(into, from, count);
  }
};
inline FakeAllocator allocator;

// ---- pinned memory

inline std::mutex pinned_lock;
inline std::map<const char *, size_t> pinned;

inline void free_pinned(void *data) {
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
inline PinnedAllocator pinned_allocator;

// ---- streams and events: all work is done when a call returns, so nothing waits

inline thread_local c10::StreamId streams[kMaxDevices] = {};

struct FakeEvent {
  std::chrono::steady_clock::time_point recorded;
};

struct FakeGuard final : c10::impl::DeviceGuardImplInterface {
  static c10::DeviceIndex index_of(c10::Device device) {
    return device.index() < 0 ? current : device.index();
  }
  static c10::Stream stream(c10::StreamId id, c10::DeviceIndex index) {
    return c10::Stream(c10::Stream::UNSAFE, c10::Device(kFake, index), id);
  }
  c10::DeviceType type() const override { return kFake; }
  c10::Device exchangeDevice(c10::Device device) const override {
    auto old = current;
    current = index_of(device);
    return {kFake, old};
  }
  c10::Device getDevice() const override { return {kFake, current}; }
  void setDevice(c10::Device device) const override { uncheckedSetDevice(device); }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    current = index_of(device);
  }
  c10::Stream getStream(c10::Device device) const override {
    return stream(streams[index_of(device)], index_of(device));
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return stream(0, index_of(device));
  }
  c10::Stream getNewStream(c10::Device device, int) const override {
    static std::atomic<c10::StreamId> made{0};
    return stream(++made, index_of(device));
  }
  c10::Stream exchangeStream(c10::Stream next) const override {
    auto old = streams[next.device_index()];
    streams[next.device_index()] = next.id();
    return stream(old, next.device_index());
  }
  c10::DeviceIndex deviceCount() const noexcept override { return device_count(); }
  bool queryStream(const c10::Stream &) const override { return true; }
  void synchronizeStream(const c10::Stream &one) const override {
    inject(one.device_index(), "synchronize");
  }
  void synchronizeDevice(const c10::DeviceIndex index) const override {
    inject(index, "synchronize");
  }
  void record(void **event, const c10::Stream &one, const c10::DeviceIndex,
              const c10::EventFlag) const override {
    inject(one.device_index(), "synchronize");
    if (!*event) *event = new FakeEvent;
    static_cast<FakeEvent *>(*event)->recorded = std::chrono::steady_clock::now();
  }
  void block(void *, const c10::Stream &) const override {}
  bool queryEvent(void *) const override { return true; }
  void synchronizeEvent(void *) const override {}
  void destroyEvent(void *event, const c10::DeviceIndex) const noexcept override {
    delete static_cast<FakeEvent *>(event);
  }
  double elapsedTime(void *from, void *to, const c10::DeviceIndex) const override {
    auto took = static_cast<FakeEvent *>(to)->recorded - static_cast<FakeEvent *>(from)->recorded;
    return std::chrono::duration<double, std::milli>(took).count();
  }
};

// ---- random numbers: each device has its own state, which kernels of the CPU use

struct FakeGenerator final : c10::GeneratorImpl {
  explicit FakeGenerator(c10::DeviceIndex index,
                         at::Generator from = at::make_generator<at::CPUGeneratorImpl>())
      : c10::GeneratorImpl(c10::Device(kFake, index),
                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)),
        host(std::move(from)) {}
  void set_current_seed(uint64_t seed) override { host.set_current_seed(seed); }
  void set_offset(uint64_t offset) override { host.set_offset(offset); }
  uint64_t get_offset() const override { return host.get_offset(); }
  uint64_t current_seed() const override { return host.current_seed(); }
  uint64_t seed() override { return const_cast<at::Generator &>(host).seed(); }
  void set_state(const c10::TensorImpl &state) override {
    host.unsafeGetGeneratorImpl()->set_state(state);
  }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return host.unsafeGetGeneratorImpl()->get_state();
  }
  FakeGenerator *clone_impl() const override {
    return new FakeGenerator(device_.index(), host.clone());
  }
  at::Generator host;
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
    static const std::vector<at::Generator> all = [] {
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
    c10::DeviceGuard guard(storage.device());
    auto fresh = allocator.allocate(size);
    if (size && storage.nbytes())
      std::memcpy(fresh.get(), storage.data(), std::min(size, storage.nbytes()));
    storage.set_data_ptr(std::move(fresh));
    storage.set_nbytes(size);
  }
};
inline FakeHooks hooks;

} // namespace emulator
