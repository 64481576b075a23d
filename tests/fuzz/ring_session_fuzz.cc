// SPDX-License-Identifier: MIT
/// Two guests with bad manners, and a whole daemon that must not mind. The input is
/// what the guests do to their pages, byte by byte and in the middle of the daemon's
/// turns if it likes, what becomes of their domains, what the toolstack asks for,
/// and when the daemon dies and another recovers. A third guest, the witness, and
/// the toolstack must be served all the time, exactly, and the daemon's own checks
/// must find nothing.
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include "journal/journal.h"
#include "tests/fuzz/fake_hypervisor.h"
#include "xenstored/daemon.h"
#include "xenstored/log.h"

namespace {

using rings::FakeMachine;
using rings::RingPage;
using store::Domid;
using xenstored::Header;
using xenstored::Op;
using xenstored::UniqueFd;
using namespace std::string_literals;
using Clock = std::chrono::steady_clock;
using Index = std::atomic_ref<std::uint32_t>;

constexpr Domid kWitness{3};
/// Longer than anything waits by design, however busy this machine is.
constexpr std::chrono::seconds kPatience{20};
/// Soon full.
constexpr std::uint64_t kBytesOfSmallJournal = std::uint64_t{3} << 20;
const std::string kDir = "/dev/shm/xs.ring_fuzz." + std::to_string(getpid());

/// While it does, a silent end of the process is a finding too.
bool daemon_runs = false;

[[noreturn]] void fail(const std::string& what) {
  daemon_runs = false;
  std::fprintf(stderr, "ring_session_fuzz: %s\n", what.c_str());
  std::abort();
}

}  // namespace

// How the daemon ends when it cannot commit.
extern "C" void _Exit(int status) noexcept {
  if (daemon_runs) fail("the daemon gave up");
  syscall(SYS_exit_group, status);
  __builtin_unreachable();
}

namespace {

std::string frame(Op op, std::string_view payload, std::uint32_t req = 0, std::uint32_t tx = 0) {
  const Header header{static_cast<std::uint32_t>(op), req, tx,
                      static_cast<std::uint32_t>(payload.size())};
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + std::string(payload);
}

std::string number_arg(std::uint64_t number) { return std::to_string(number) + '\0'; }

std::string home(Domid domid) { return "/local/domain/" + std::to_string(raw(domid)); }

class Input {
 public:
  explicit Input(std::string_view bytes) : bytes_(bytes) {}
  bool is_over() const { return bytes_.empty(); }
  std::string_view take(std::size_t count) {
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(taken.size());
    return taken;
  }
  std::uint32_t number(std::size_t bytes) {
    std::uint32_t number = 0;
    for (const char byte : take(bytes)) number = number << 8 | static_cast<unsigned char>(byte);
    return number;
  }
  std::uint32_t below(std::uint32_t end) { return number(1) % end; }

 private:
  std::string_view bytes_;
};

/// Puts as much into a request ring as fits, as Linux does. Whether that calls for an
/// event: the ring was empty before.
bool put(RingPage& page, std::string& bytes) {
  const std::uint32_t produced = Index(page.req_prod).load();
  const std::uint32_t used = produced - Index(page.req_cons).load();
  if (used >= rings::kRingBytes) return false;
  const std::size_t count = std::min<std::size_t>(bytes.size(), rings::kRingBytes - used);
  for (std::size_t i = 0; i < count; ++i) page.req[(produced + i) % rings::kRingBytes] = bytes[i];
  bytes.erase(0, count);
  Index(page.req_prod).store(produced + static_cast<std::uint32_t>(count));
  return count != 0 && Index(page.req_cons).load() == produced;
}

/// Takes what a reply ring holds. Whether that calls for an event: it was full.
bool take(RingPage& page, std::string& bytes) {
  const std::uint32_t consumed = Index(page.rsp_cons).load();
  const std::uint32_t count = Index(page.rsp_prod).load() - consumed;
  if (count > rings::kRingBytes) return false;
  for (std::uint32_t i = 0; i < count; ++i) bytes += page.rsp[(consumed + i) % rings::kRingBytes];
  Index(page.rsp_cons).store(consumed + count);
  return count == rings::kRingBytes;
}

/// The guest that behaves, looks at its ring only after an event, and knows every
/// byte that it must be sent.
class Witness {
 public:
  explicit Witness(FakeMachine& machine) : machine_(machine) {}

  /// From now on it asks for nothing, or may do so again.
  void rest(bool rests) { rests_ = rests; }

  /// One more request, sent in the shadow of those before it.
  void ask(Op op, const std::string& payload, const std::string& answer,
           const std::string& event_before = {}, const std::string& event_after = {}) {
    if (!event_before.empty()) expected_ += frame(Op::kWatchEvent, event_before);
    ++req_;
    expected_ += frame(op, answer, req_);
    if (!event_after.empty()) expected_ += frame(Op::kWatchEvent, event_after);
    unsent_ += frame(op, payload, req_);
    send();
  }
  void start() { ask(Op::kWatch, "w\0t\0"s, "OK\0"s, {}, "w\0t\0"s); }
  /// Makes and reads a node under the watch, and removes the one before; when it has
  /// had all from before. (Events that are alike would be merged.)
  void work(std::size_t size) {
    if (rests_ || !has_all()) return;
    const std::string last = "w/" + std::to_string(names_) + '\0';
    const std::string name = "w/" + std::to_string(++names_) + '\0';
    const std::string value(size, static_cast<char>('a' + names_ % 26));
    ask(Op::kWrite, name + value, "OK\0"s, name + "t\0"s);
    ask(Op::kRead, name, value);
    if (names_ != 1) ask(Op::kRm, last, "OK\0"s, last + "t\0"s);
  }
  /// What an event makes a guest do; nothing without one.
  void look() {
    if (!machine_.take_event(kWitness)) return;
    if (take(page(), received_)) machine_.notify_daemon(kWitness);
    if (received_ != std::string_view(expected_).substr(0, received_.size())) {
      fail("the witness was sent something else");
    }
    expected_.erase(0, received_.size());
    received_.clear();
    if (!unsent_.empty()) send();
  }
  bool has_all() const { return expected_.empty() && unsent_.empty(); }

 private:
  RingPage& page() { return *machine_.find(kWitness)->page; }
  void send() {
    if (put(page(), unsent_)) machine_.notify_daemon(kWitness);
  }

  FakeMachine& machine_;
  std::string unsent_;
  std::string expected_;
  std::string received_;
  std::uint32_t req_ = 0;
  std::uint32_t names_ = 0;
  bool rests_ = false;
};

/// A daemon, its area and machine, new for each input.
class World {
 public:
  /// `is_full`: there is no room for more in the journal, but what is kept back.
  explicit World(bool is_full);
  ~World();
  FakeMachine& machine() { return machine_; }
  Witness& witness() { return witness_; }
  rings::FakeHypervisor& hypervisor() { return *hypervisor_; }

  void turn() {
    daemon_runs = true;
    daemon_->turn(false);
    daemon_runs = false;
    witness_.look();
  }
  /// The daemon dies between two turns, and another recovers.
  void restart();
  /// The toolstack's request, on its socket: the reply's payload, errors as "!ENOENT".
  std::string ask(Op op, std::string_view payload, std::uint32_t tx = 0);
  std::string introduce(Domid domid);
  void give_home(Domid domid);
  /// The witness has had all that it asked for.
  void settle_witness();
  /// The witness, the toolstack and the daemon's own checks.
  void check();
  /// Whoever needed the room is gone.
  void make_room();

 private:
  void fill();
  void start();
  void stop();

  const bool is_full_;
  FakeMachine machine_;
  Witness witness_{machine_};
  xenstored::Options options_;
  xenstored::Trace trace_;
  std::unique_ptr<rings::FakeHypervisor> hypervisor_;
  std::unique_ptr<journal::Journal> journal_;
  std::unique_ptr<xenstored::History> history_;
  std::unique_ptr<xenstored::Daemon> daemon_;
  UniqueFd toolstack_;
  std::string unread_;
  std::uint32_t req_ = 0;
};

/// One a process, as it wants it. Its file is not in the area that is made anew.
xenstored::PoisonGuard& poison() {
  static xenstored::PoisonGuard guard(kDir);
  return guard;
}

World::World(bool is_full) : is_full_(is_full) {
  options_.area = kDir + "/area";
  start();
  ask(Op::kWrite, "/shared\0"s);
  ask(Op::kSetPerms, "/shared\0b0\0"s);
  for (const Domid domid : {Domid{1}, Domid{2}, kWitness}) {
    machine_.create(domid);
    if (introduce(domid) != "OK\0"s) fail("a domain cannot be introduced");
    give_home(domid);
  }
  witness_.start();
  settle_witness();
  if (is_full) fill();
}

/// Leaves what two or three values need.
void World::fill() {
  const std::string value(3900, 'f');
  int count = 0;
  while (ask(Op::kWrite, "/fill/" + std::to_string(count) + '\0' + value) == "OK\0"s) ++count;
  if (count < 10) fail("there was no room to begin with");
  ask(Op::kRm, "/fill/0\0"s);
  ask(Op::kRm, "/fill/1\0"s);
  witness_.rest(true);
}

void World::make_room() {
  for (const Domid domid : {Domid{1}, Domid{2}}) machine_.destroy(domid);
  machine_.raise_domain_exception();
  for (int i = 0; i < 3; ++i) turn();
  if (ask(Op::kRm, "/fill\0"s) != "OK\0"s) fail("a full store cannot be emptied");
  witness_.rest(false);
}

World::~World() {
  stop();
  std::filesystem::remove_all(options_.area);
}

void World::start() {
  hypervisor_ = std::make_unique<rings::FakeHypervisor>(machine_);
  std::vector<std::string> notes;
  journal::Options area;
  area.area = options_.area;
  if (is_full_) area.max_bytes = kBytesOfSmallJournal;
  auto opened = journal::Journal::open(area, notes);
  if (!opened.has_value()) fail("the area cannot be opened: " + opened.error().message);
  journal_ = std::move(opened.value());
  history_ =
      std::make_unique<xenstored::History>(options_, *journal_, poison(), std::filesystem::path());
  daemon_ = std::make_unique<xenstored::Daemon>(options_, *journal_, *history_, poison(), trace_,
                                                hypervisor_.get(), nullptr);
  daemon_runs = true;
  const auto done = daemon_->recover();
  daemon_runs = false;
  if (!done.has_value()) fail("the state cannot be used: " + done.error());
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0) fail("no socket");
  daemon_->accept_client(UniqueFd(ends[0]));
  toolstack_.reset(ends[1]);
  unread_.clear();
}

void World::stop() {
  daemon_.reset();
  history_.reset();
  journal_.reset();
  hypervisor_.reset();
}

void World::restart() {
  auto hook = hypervisor_->on_call;
  stop();
  start();
  hypervisor_->on_call = std::move(hook);
}

std::string World::ask(Op op, std::string_view payload, std::uint32_t tx) {
  const std::string request = frame(op, payload, ++req_, tx);
  if (send(toolstack_.get(), request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    fail("the toolstack cannot send");
  }
  std::string buffer(4096, '\0');
  const auto deadline = Clock::now() + kPatience;
  while (Clock::now() < deadline) {
    turn();
    const ssize_t got = recv(toolstack_.get(), buffer.data(), buffer.size(), 0);
    if (got == 0) fail("the toolstack was closed");
    if (got > 0) unread_.append(buffer.data(), static_cast<std::size_t>(got));
    Header header;
    while (unread_.size() >= sizeof header) {
      std::memcpy(&header, unread_.data(), sizeof header);
      if (unread_.size() < sizeof header + header.len) break;
      const std::string answer = unread_.substr(sizeof header, header.len);
      unread_.erase(0, sizeof header + header.len);
      if (header.type == static_cast<std::uint32_t>(Op::kWatchEvent)) continue;
      if (header.req_id != req_) fail("the toolstack was sent another's reply");
      return header.type == static_cast<std::uint32_t>(Op::kError) ? '!' + answer : answer;
    }
  }
  fail("the toolstack waits in vain");
}

std::string World::introduce(Domid domid) {
  const FakeMachine::Domain* domain = machine_.find(domid);
  const auto port = domain == nullptr ? 1 : static_cast<std::uint32_t>(domain->port);
  return ask(Op::kIntroduce, number_arg(raw(domid)) + number_arg(1) + number_arg(port));
}

void World::give_home(Domid domid) {
  ask(Op::kMkdir, home(domid) + '\0');
  ask(Op::kSetPerms, home(domid) + "\0n"s + number_arg(raw(domid)));
}

void World::settle_witness() {
  const auto deadline = Clock::now() + kPatience;
  while (!witness_.has_all()) {
    if (Clock::now() > deadline) fail("the witness waits in vain");
    turn();
  }
}

void World::check() {
  settle_witness();
  witness_.work(1900);
  settle_witness();
  if (ask(Op::kWrite, "/checked\0yes"s) != "OK\0"s) fail("the toolstack cannot write");
  if (ask(Op::kRead, "/checked\0"s) != "yes") fail("the toolstack reads something else");
  if (ask(Op::kControl, "check\0"s) != "OK\0"s) fail("the daemon's own checks find something");
  for (int i = 0; i < 3; ++i) turn();
  if (!witness_.has_all()) fail("the witness was sent more than it should");
}

/// The input as a story.
class Story {
 public:
  Story(World& world, Input input) : world_(world), input_(input) {}
  void tell() {
    world_.hypervisor().on_call = [this] { strike(); };
    while (!input_.is_over()) step();
    strike_in_ = 0;
  }

 private:
  void step();
  void step_of_guest(std::uint32_t what, Domid domid);
  void step_of_machine(std::uint32_t what, Domid domid);
  void step_of_toolstack(Domid domid);
  void step_of_kernel();
  void send_all(Domid domid, RingPage& page, std::string bytes);
  std::string request();
  void scribble(RingPage& page, std::uint32_t offset, std::string_view bytes);
  void set_index(RingPage& page);
  void scribble_meanwhile(const std::shared_ptr<RingPage>& page);
  void replace(Domid domid);
  std::string payload_of(Op op);
  void arm(Domid domid);
  void strike();

  World& world_;
  Input input_;
  std::uint32_t transaction_ = 0;  ///< the toolstack's open one
  std::uint32_t req_ = 0;
  // What takes long is had only so often.
  int restarts_left_ = 4;
  int threads_left_ = 2;
  // What happens in the middle of a turn.
  std::uint32_t strike_in_ = 0;  ///< calls of the daemon until then; 0: nothing
  std::uint32_t strike_kind_ = 0;
  std::uint32_t strike_offset_ = 0;
  std::string strike_bytes_;
  Domid strike_domid_{};
};

void Story::step() {
  const std::uint32_t what = input_.number(1);
  const Domid domid{static_cast<std::uint16_t>(1 + (what & 1))};
  const std::uint32_t kind = what >> 1 & 31;
  if (kind < 16) {
    step_of_guest(kind, domid);
  } else if (kind < 24) {
    step_of_machine(kind - 16, domid);
  } else if (kind < 27) {
    step_of_toolstack(domid);
  } else if (kind == 27) {
    step_of_kernel();
  } else if (kind < 30) {
    world_.witness().work(input_.number(1) * 7);
  } else {
    for (std::uint32_t turns = input_.below(4); turns != 0; --turns) world_.turn();
  }
}

void Story::step_of_guest(std::uint32_t what, Domid domid) {
  FakeMachine& machine = world_.machine();
  FakeMachine::Domain* domain = machine.find(domid);
  if (domain == nullptr) return;
  // The domain may die in the middle of this.
  const std::shared_ptr<RingPage> kept = domain->page;
  RingPage& page = *kept;
  if (what < 5) {
    send_all(domid, page, request());
  } else if (what == 5) {
    send_all(domid, page, std::string(input_.take(input_.number(1) * 8)));
  } else if (what == 6) {
    const std::uint32_t offset = input_.number(2);
    scribble(page, offset, input_.take(input_.below(32)));
  } else if (what < 9) {
    set_index(page);
  } else if (what == 9) {
    Index(page.connection).store(rings::kReconnect);
  } else if (what == 10) {
    scribble_meanwhile(kept);
  } else if (what == 11) {
    arm(domid);
    return;
  } else if (what == 12) {
    machine.notify_daemon(domid);
    return;
  } else {
    std::string ignored;
    take(page, ignored);
  }
  machine.notify_daemon(domid);
  if ((what & 1) == 0) world_.turn();
}

/// Any bytes, as a stream through the ring; the daemon has turns only when it is full.
void Story::send_all(Domid domid, RingPage& page, std::string bytes) {
  put(page, bytes);
  for (int turns = 0; !bytes.empty() && turns < 10; ++turns) {
    world_.machine().notify_daemon(domid);
    world_.turn();
    put(page, bytes);
  }
}

/// A request that may well be a proper one.
std::string Story::request() {
  const Op op{input_.below(28)};
  const std::uint32_t tx = input_.below(16) / 4;
  return frame(op, payload_of(op), ++req_, tx);
}

std::string Story::payload_of(Op op) {
  static const std::string kPaths[] = {"a",
                                       "a/b",
                                       "c",
                                       "/shared",
                                       "/shared/x",
                                       "/local/domain/1/a",
                                       "/local/domain/2/a",
                                       "/local/domain/3/w",
                                       "/",
                                       "@releaseDomain",
                                       "@introduceDomain"};
  if (op == Op::kTransactionStart || op == Op::kResetWatches) return "\0"s;
  if (op == Op::kTransactionEnd) return input_.below(4) == 0 ? "F\0"s : "T\0"s;
  const std::uint32_t shape = input_.below(16);
  if (shape >= std::size(kPaths)) return std::string(input_.take(input_.number(1)));
  std::string payload = kPaths[shape] + '\0';
  if (op == Op::kWatch || op == Op::kUnwatch) return payload + number_arg(input_.below(4));
  if (op == Op::kDirectoryPart) return payload + number_arg(input_.below(4));
  if (op == Op::kSetPerms) {
    static const std::string kPerms[] = {"n1\0"s, "b2\0"s, "n0\0b1\0b2\0"s, "b0\0"s};
    return payload + kPerms[input_.below(4)];
  }
  if (op != Op::kWrite) return payload;
  const std::uint32_t size = input_.number(1);
  return payload + std::string(size * 9, static_cast<char>(size));
}

void Story::scribble(RingPage& page, std::uint32_t offset, std::string_view bytes) {
  auto* to = reinterpret_cast<volatile char*>(&page);
  for (std::size_t i = 0; i < bytes.size(); ++i) to[(offset + i) % sizeof page] = bytes[i];
}

void Story::set_index(RingPage& page) {
  std::uint32_t* const fields[] = {&page.req_prod,        &page.rsp_cons,   &page.req_cons,
                                   &page.rsp_prod,        &page.connection, &page.error,
                                   &page.server_features, &page.evtchn_port};
  const std::uint32_t which = input_.below(16);
  Index field(*fields[which % 8]);
  if (which < 8) {
    field.store(input_.number(4));
  } else {
    field.store(field.load() + input_.number(2) % 2050 - 1025);
  }
}

/// A second processor that never rests while the daemon has some turns.
void Story::scribble_meanwhile(const std::shared_ptr<RingPage>& page) {
  const std::uint32_t seed = input_.number(2);
  if (threads_left_ == 0) return;
  --threads_left_;
  std::atomic<bool> stop = false;
  std::thread scribbler([&] {
    std::mt19937 random(seed);
    auto* to = reinterpret_cast<volatile std::uint32_t*>(page.get());
    while (!stop) {
      const bool is_index = random() % 2 == 0;
      const std::size_t word = is_index ? 512 + random() % 8 : random() % 520;
      const auto value = static_cast<std::uint32_t>(random() % 4 == 0 ? random() : random() % 2048);
      to[word] = value;
    }
  });
  for (std::uint32_t turns = 1 + seed % 6; turns != 0; --turns) {
    for (const Domid domid : {Domid{1}, Domid{2}}) world_.machine().notify_daemon(domid);
    world_.turn();
  }
  stop = true;
  scribbler.join();
}

void Story::step_of_machine(std::uint32_t what, Domid domid) {
  FakeMachine& machine = world_.machine();
  FakeMachine::Domain* domain = machine.find(domid);
  switch (what) {
    case 0:
      machine.destroy(domid);
      break;
    case 1:
      replace(domid);
      if (input_.below(2) == 0) return;  // and nobody tells, for now
      break;
    case 2:
      machine.start_dying(domid);
      break;
    case 3:
      if (domain != nullptr) domain->info.is_shut_down = !domain->info.is_shut_down;
      break;
    case 4:
      if (domain != nullptr) domain->fails_to_map = !domain->fails_to_map;
      return;
    case 5:
      world_.hypervisor().raise_spuriously(rings::LocalPort{100 + input_.below(16)});
      return;
    default:
      if (restarts_left_ == 0) return;
      --restarts_left_;
      world_.restart();
      transaction_ = 0;
      return;
  }
  machine.raise_domain_exception();
}

void Story::replace(Domid domid) {
  world_.machine().destroy(domid);
  world_.machine().create(domid);
}

void Story::step_of_toolstack(Domid domid) {
  const std::string id = number_arg(raw(domid));
  switch (input_.below(12)) {
    case 0:
    case 1:
    case 2:
      world_.introduce(domid);
      if (input_.below(2) == 0) world_.give_home(domid);
      return;
    case 3:
      world_.ask(Op::kRelease, id);
      return;
    case 4:
      world_.ask(Op::kResume, id);
      return;
    case 5:
      world_.ask(Op::kSetTarget, id + number_arg(1 + input_.below(2)));
      return;
    case 6:
      world_.ask(Op::kSetFeature, id + number_arg(input_.below(16)));
      return;
    case 7: {
      static const char* const kQuotas[] = {"nodes", "memory", "outstanding", "watches"};
      world_.ask(Op::kSetQuota,
                 id + kQuotas[input_.below(4)] + '\0' + number_arg(input_.number(2)));
      return;
    }
    case 8: {
      const std::string answer = world_.ask(Op::kTransactionStart, "\0"s);
      transaction_ = static_cast<std::uint32_t>(std::atoi(answer.c_str()));
      return;
    }
    case 9:
      world_.ask(Op::kTransactionEnd, "T\0"s, transaction_);
      transaction_ = 0;
      return;
    case 10:
      world_.ask(Op::kWatch, "/\0"s + number_arg(input_.below(4)));
      return;
    default:
      break;
  }
  static const Op kOps[] = {Op::kWrite, Op::kRm, Op::kMkdir, Op::kSetPerms, Op::kRead};
  static const std::string kPaths[] = {"/shared/x\0"s, "/shared/y/z\0"s, "/local/domain/1/a\0"s,
                                       "/local/domain/2/a\0"s};
  const Op op = kOps[input_.below(5)];
  const std::string tail = op == Op::kSetPerms ? "b1\0r2\0"s : op == Op::kWrite ? "value" : "";
  world_.ask(op, kPaths[input_.below(4)] + tail, transaction_);
}

/// Domain 0's kernel has a ring as well, and may do what the toolstack may.
void Story::step_of_kernel() {
  static const Op kOps[] = {Op::kRead,          Op::kDirectory, Op::kWrite,   Op::kRm,
                            Op::kMkdir,         Op::kWatch,     Op::kUnwatch, Op::kTransactionStart,
                            Op::kTransactionEnd};
  static const std::string kPaths[] = {"/shared\0"s, "/shared/x\0"s, "/local/domain/1/a\0"s};
  const Op op = kOps[input_.below(std::size(kOps))];
  std::string payload = kPaths[input_.below(3)];
  if (op == Op::kWatch || op == Op::kUnwatch || op == Op::kWrite) payload += "0\0"s;
  if (op == Op::kTransactionStart) payload = "\0"s;
  if (op == Op::kTransactionEnd) payload = "T\0"s;
  RingPage& page = *world_.machine().find(store::kDom0)->page;
  send_all(store::kDom0, page, frame(op, payload, ++req_, input_.below(4)));
  world_.machine().notify_daemon(store::kDom0);
  world_.turn();
  std::string ignored;
  if (input_.below(4) != 0 && take(page, ignored)) world_.machine().notify_daemon(store::kDom0);
}

/// Something will happen in the middle of a turn, before the n-th call from now on.
void Story::arm(Domid domid) {
  strike_domid_ = domid;
  strike_kind_ = input_.below(8);
  strike_offset_ = input_.number(2);
  strike_bytes_ = input_.take(input_.below(24));
  strike_in_ = 1 + input_.below(12);
}

void Story::strike() {
  if (strike_in_ == 0 || --strike_in_ != 0) return;
  FakeMachine::Domain* domain = world_.machine().find(strike_domid_);
  if (domain == nullptr) return;
  if (strike_kind_ == 0) {
    world_.machine().destroy(strike_domid_);
  } else if (strike_kind_ == 1) {
    world_.machine().start_dying(strike_domid_);
  } else if (strike_kind_ == 2) {
    replace(strike_domid_);
  } else {
    scribble(*domain->page, strike_offset_, strike_bytes_);
    return;
  }
  world_.machine().raise_domain_exception();
}

void expect_gone(World& world, Domid domid) {
  for (int i = 0; i < 3; ++i) world.turn();
  if (world.ask(Op::kIsDomainIntroduced, number_arg(raw(domid))) != "F\0"s) {
    fail("a domain that is gone was not released");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool is_ready = [] {
    std::filesystem::create_directories(kDir);
    std::atexit([] { std::filesystem::remove_all(kDir); });
    xenstored::log::open("/dev/null");
    xenstored::log::ready();
    return true;
  }();
  (void)is_ready;
  Input input({reinterpret_cast<const char*>(data), size});
  const bool is_full = input.below(4) == 3;
  World world(is_full);
  Story(world, input).tell();
  world.hypervisor().on_call = nullptr;
  if (is_full) world.make_room();
  world.check();
  world.restart();
  world.check();
  for (const Domid domid : {Domid{1}, Domid{2}}) world.machine().destroy(domid);
  world.machine().raise_domain_exception();
  for (const Domid domid : {Domid{1}, Domid{2}}) expect_gone(world, domid);
  world.check();
  return 0;
}
