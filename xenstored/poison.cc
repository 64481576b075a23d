// SPDX-License-Identifier: MIT
#include "xenstored/poison.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <type_traits>

#include "xenstored/log.h"
#include "xenstored/unique_fd.h"
#include "xenstored/wire.h"

namespace xenstored {
namespace {

constexpr std::uint64_t kMagic = 0x6e6f73696f507358;  // "XsPoison"
constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kDeathsToPoison = 2;
constexpr std::uint32_t kSavedMax = 32;

/// Values of Note::state.
constexpr std::uint32_t kIdle = 0;
constexpr std::uint32_t kExecuting = 1;

struct Note {
  std::atomic<std::uint32_t> state;
  /// The fatal signal that ended the server while executing; 0: none.
  std::atomic<std::uint32_t> signal;
  std::uint32_t op;
  std::uint16_t domid;
  std::uint16_t length;
  char payload[kPayloadMax];
};

struct Identity {
  std::uint64_t hash;  ///< of the payload
  std::uint32_t op;
  std::uint16_t domid;
  std::uint16_t length;
  bool operator==(const Identity&) const = default;
};

struct Suspect {
  Identity identity;
  std::uint64_t last_death;  ///< on the map's own count of deaths
  std::uint32_t deaths;      ///< 0: the entry is free
  std::uint32_t is_saved;
};

/// Payloads longer than the wire allows are cut; they are never executed anyway.
std::string_view limited(std::string_view payload) { return payload.substr(0, kPayloadMax); }

Identity identity_of(std::uint16_t domid, std::uint32_t op, std::string_view payload) {
  return {XXH3_64bits(payload.data(), payload.size()), op, domid,
          static_cast<std::uint16_t>(payload.size())};
}

/// How often the OOM killer struck since boot; 0 when the kernel does not say.
std::uint64_t oom_kills() {
  std::ifstream vmstat("/proc/vmstat");
  std::string name;
  std::uint64_t value = 0;
  while (vmstat >> name >> value) {
    if (name == "oom_kill") return value;
  }
  return 0;
}

}  // namespace

struct PoisonMap {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t size;
  std::uint64_t oom_kills;  ///< when the server started
  std::uint64_t deaths;     ///< of all requests, ever
  std::uint32_t saved;      ///< how many requests were saved, ever
  std::atomic<std::uint32_t> other_deaths;
  Note note;
  Suspect suspects[64];
};
static_assert(std::is_standard_layout_v<PoisonMap>);

namespace {

// What the signal handlers see.
std::atomic<PoisonMap*> watched_map{nullptr};
pid_t watched_thread = 0;
constexpr int kFatalSignals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};
constexpr std::size_t kFatalSignalCount = std::size(kFatalSignals);
struct sigaction previous_actions[kFatalSignalCount];
alignas(16) char handler_stack[64 * 1024];  // the normal one may be what overflowed

void on_fatal_signal(int signal, siginfo_t* info, void*) {
  PoisonMap* map = watched_map.load(std::memory_order_relaxed);
  if (map != nullptr && ::gettid() != watched_thread) {
    // That says nothing about the request.
    map->other_deaths.fetch_add(1, std::memory_order_relaxed);
  } else if (map != nullptr && map->note.state.load(std::memory_order_relaxed) == kExecuting) {
    map->note.signal.store(static_cast<std::uint32_t>(signal), std::memory_order_relaxed);
  }
  // Whoever handled it before us (a sanitizer, or the default: death) goes on. A
  // fault happens again when we return; a signal that was sent must be sent again.
  for (std::size_t i = 0; i < kFatalSignalCount; ++i) {
    if (kFatalSignals[i] == signal) ::sigaction(signal, &previous_actions[i], nullptr);
  }
  if (info->si_code <= 0) ::raise(signal);
}

void install_handlers(PoisonMap& map) {
  watched_thread = ::gettid();
  watched_map.store(&map, std::memory_order_relaxed);
  const stack_t stack{handler_stack, 0, sizeof(handler_stack)};
  ::sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_sigaction = on_fatal_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kFatalSignalCount; ++i) {
    ::sigaction(kFatalSignals[i], &action, &previous_actions[i]);
  }
}

void remove_handlers() {
  for (std::size_t i = 0; i < kFatalSignalCount; ++i) {
    ::sigaction(kFatalSignals[i], &previous_actions[i], nullptr);
  }
  watched_map.store(nullptr, std::memory_order_relaxed);
}

/// Null, with errno set, if the file cannot be had. Its space is reserved, so that
/// a full tmpfs cannot turn a note into a SIGBUS.
PoisonMap* map_file(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid() || ::ftruncate(fd.get(), sizeof(PoisonMap)) != 0) return nullptr;
  if (const int error = ::posix_fallocate(fd.get(), 0, sizeof(PoisonMap)); error != 0) {
    errno = error;
    return nullptr;
  }
  void* memory =
      ::mmap(nullptr, sizeof(PoisonMap), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  return memory == MAP_FAILED ? nullptr : static_cast<PoisonMap*>(memory);
}

PoisonMap* map_anonymous() {
  void* memory = ::mmap(nullptr, sizeof(PoisonMap), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<PoisonMap*>(memory);
}

/// Drops what another version or an accident left. Every field that is used as a
/// size or count is checked here or where it is used.
void make_sound(PoisonMap& map) {
  if (map.magic != kMagic || map.version != kVersion || map.size != sizeof(PoisonMap)) {
    std::memset(static_cast<void*>(&map), 0, sizeof(map));
    map.version = kVersion;
    map.size = sizeof(PoisonMap);
    map.magic = kMagic;
  }
  if (map.note.length > kPayloadMax) map.note.state.store(kIdle, std::memory_order_relaxed);
}

Suspect* find(PoisonMap& map, const Identity& identity) {
  for (Suspect& suspect : map.suspects) {
    if (suspect.deaths != 0 && suspect.identity == identity) return &suspect;
  }
  return nullptr;
}

/// The suspect's entry; a free or the oldest one becomes its entry if it has none.
Suspect& find_or_make(PoisonMap& map, const Identity& identity) {
  if (Suspect* known = find(map, identity)) return *known;
  const auto age = [](const Suspect& suspect) {
    return suspect.deaths == 0 ? 0 : suspect.last_death;
  };
  Suspect& place = *std::ranges::min_element(map.suspects, {}, age);
  place = Suspect{identity, 0, 0, 0};
  return place;
}

std::uint32_t count_suspects(const PoisonMap& map) {
  return static_cast<std::uint32_t>(std::ranges::count_if(
      map.suspects, [](const Suspect& suspect) { return suspect.deaths != 0; }));
}

}  // namespace

PoisonGuard::PoisonGuard(const std::string& area) : area_(area) {
  map_ = map_file(area_ + "/poison.map");
  if (map_ == nullptr) {
    log::error(
        fmt::format("{}/poison.map cannot be used ({}): a request that kills the server "
                    "will not be recognised after the restart",
                    area_, std::strerror(errno)));
    map_ = map_anonymous();
  }
  if (map_ == nullptr) {
    log::error("no memory at start");
    std::abort();
  }
  make_sound(*map_);
  note_state_ = &map_->note.state;
  judge_previous_server();
  suspects_ = count_suspects(*map_);
  map_->oom_kills = oom_kills();
  install_handlers(*map_);
}

PoisonGuard::~PoisonGuard() {
  remove_handlers();
  ::munmap(map_, sizeof(PoisonMap));
}

void PoisonGuard::note(store::Domid domid, std::uint32_t op, std::string_view payload) {
  payload = limited(payload);
  Note& note = map_->note;
  note.op = op;
  note.domid = raw(domid);
  note.length = static_cast<std::uint16_t>(payload.size());
  std::memcpy(note.payload, payload.data(), payload.size());
  note.state.store(kExecuting, std::memory_order_release);
}

std::uint32_t PoisonGuard::other_deaths() const {
  return map_->other_deaths.load(std::memory_order_relaxed);
}

void PoisonGuard::forget_other_deaths() { map_->other_deaths.store(0, std::memory_order_relaxed); }

void PoisonGuard::judge_previous_server() {
  Note& note = map_->note;
  const std::uint32_t signal = note.signal.exchange(0, std::memory_order_relaxed);
  if (note.state.load(std::memory_order_relaxed) != kExecuting) {
    note.state.store(kIdle, std::memory_order_relaxed);
    return;
  }
  const bool by_oom_killer = oom_kills() > map_->oom_kills;
  if (signal != 0 || by_oom_killer) {
    Suspect& suspect =
        find_or_make(*map_, identity_of(note.domid, note.op, {note.payload, note.length}));
    suspect.last_death = ++map_->deaths;
    ++suspect.deaths;
    log::error(fmt::format(
        "the server before this one died ({}) executing {} of domain {}: {}",
        signal != 0 ? fmt::format("signal {}", signal) : "OOM killer", op_name(note.op), note.domid,
        suspect.deaths >= kDeathsToPoison ? "refused from now on" : "suspect from now on"));
  }
  // Last: a death before this line counts the note once more, never not at all.
  note.state.store(kIdle, std::memory_order_release);
}

bool PoisonGuard::look_up(store::Domid domid, std::uint32_t op, std::string_view payload) {
  payload = limited(payload);
  Suspect* suspect = find(*map_, identity_of(raw(domid), op, payload));
  if (suspect == nullptr || suspect->deaths < kDeathsToPoison) return false;
  if (suspect->is_saved == 0) {
    suspect->is_saved = 1;
    save(std::to_string(map_->saved++ % kSavedMax), domid, op, payload);
  }
  return true;
}

void PoisonGuard::save(const std::string& name, store::Domid domid, std::uint32_t op,
                       std::string_view payload) {
  const std::string directory = area_ + "/poisoned";
  const std::string path = directory + "/" + name;
  ::mkdir(directory.c_str(), 0700);  // there already, or the open says what is wrong
  const UniqueFd fd(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  const std::string text = fmt::format("domain {} {} (type {}), {} bytes follow this line\n{}",
                                       raw(domid), op_name(op), op, payload.size(), payload);
  const bool is_written = fd.valid() && ::write(fd.get(), text.data(), text.size()) ==
                                            static_cast<ssize_t>(text.size());
  log::error(
      fmt::format("{} of domain {} has killed the server {} times: not executed, answered "
                  "EIO; {}",
                  op_name(op), raw(domid), kDeathsToPoison,
                  is_written ? "saved as " + path : "could not be saved as " + path));
}

void PoisonGuard::clear_suspect() {
  const Note& note = map_->note;
  // The note is in shared memory; its length was checked when it was made.
  const std::string_view payload(note.payload, std::min<std::size_t>(note.length, kPayloadMax));
  if (note.state.load(std::memory_order_relaxed) != kExecuting) return;
  if (Suspect* suspect = find(*map_, identity_of(note.domid, note.op, payload))) {
    suspect->deaths = 0;
    --suspects_;
  }
}

}  // namespace xenstored
