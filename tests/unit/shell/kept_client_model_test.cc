// SPDX-License-Identifier: MIT
// Random lives of a kept client's file beside a plain model of its two streams: noted and plain
// calls in any order, turns that commit, that come to nothing or are cut off, and a next process
// that must find exactly what was committed.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/unit/shell/temp_dir.h"
#include "xenstored/kept_client.h"
#include "xenstored/unique_fd.h"

namespace xenstored {
namespace {

constexpr store::ConnId kId{5};
constexpr std::size_t kRequestMax = 4112;

class Life {
 public:
  Life(unsigned seed, const std::string& directory) : random_(seed), directory_(directory) {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    server_.reset(ends[0]);
    client_.reset(ends[1]);
    reply_max_ = one_in(4) ? 100'000 : one_in(2) ? 5000 : 60;
    kept_ = std::move(KeptClient::create(directory_, kId, {}, output(), 0).value());
    commit();
  }

  void play(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
      ask();
      for (unsigned times = one_in(5) ? 2 : 1; times > 0; --times) receive_and_execute();
      if (one_in(6)) add_frame(16 + below(60));  // an event
      if (one_in(30)) die();
      commit();
      send();
      take();
      if (one_in(30)) die();
    }
    while (take() > 0) {
    }
    EXPECT_EQ(taken_.size(), sent_) << "what was sent has not all arrived";
  }

 private:
  /// What a commit makes valid.
  struct State {
    std::uint64_t executed = 0;
    std::string out;                        ///< the whole stream
    std::vector<std::uint64_t> frame_ends;  ///< in it
    std::uint32_t last_tx = 0;
  };

  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
  bool one_in(std::uint64_t count) { return below(count) == 0; }
  KeptClient::Calls calls() {
    return one_in(2) ? KeptClient::Calls::kPlain : KeptClient::Calls::kNoted;
  }
  std::string noise(std::size_t size) {
    std::string bytes(size, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random_());
    return bytes;
  }

  /// From the first frame that is not sent whole.
  KeptClient::Output output() const {
    std::uint64_t first = 0;
    for (const std::uint64_t end : live_.frame_ends) {
      if (end <= sent_) first = end;
    }
    return {first, live_.out.size(), std::string_view(live_.out).substr(first)};
  }
  void add_frame(std::size_t size) {
    live_.out += noise(size);
    live_.frame_ends.push_back(live_.out.size());
  }

  void ask() {
    if (one_in(3)) return;
    for (std::uint64_t count = 1 + below(4); count > 0; --count) {
      const std::size_t size = 16 + below(one_in(5) ? kRequestMax - 16 : 100);
      request_ends_.push_back((request_ends_.empty() ? 0 : request_ends_.back()) + size);
      unsent_ += noise(size);
    }
    const std::size_t part = one_in(3) ? 1 + below(unsent_.size()) : unsent_.size();
    const ssize_t done = ::write(client_.get(), unsent_.data(), part);
    if (done <= 0) return;
    asked_.append(unsent_, 0, static_cast<std::size_t>(done));
    unsent_.erase(0, static_cast<std::size_t>(done));
  }

  void receive_and_execute() {
    if (kept_->room() == 0 || live_.out.size() - sent_ > 262'144) return;
    std::string_view bytes;
    const auto received = kept_->receive(server_.get(), bytes, calls());
    ASSERT_TRUE(received == KeptClient::Received::kBytes ||
                received == KeptClient::Received::kNothing);
    ASSERT_EQ(asked_.substr(received_, bytes.size()), bytes);
    received_ += bytes.size();
    if (one_in(40)) die();
    for (const std::uint64_t end : request_ends_) {
      if (end <= live_.executed) continue;
      if (end > received_ || one_in(20)) break;
      kept_->executed(end - live_.executed);
      live_.executed = end;
      add_frame(16 + below(one_in(3) ? reply_max_ : 30));
    }
  }

  /// A turn's end; in some the number is one of a commit that comes to nothing, or is cut off.
  void commit() {
    ASSERT_TRUE(kept_->make_room(output()));
    if (is_committed_once_ && one_in(30)) return die();
    const bool is_numbered = !is_committed_once_ || one_in(2);
    const std::uint64_t number = confirmed_ + (is_numbered ? 1 : 0);
    KeptClient::Turn turn;
    live_.last_tx = turn.last_tx = static_cast<std::uint32_t>(random_());
    for (std::uint64_t i = below(4); i > 0; --i) {
      turn.open_tx.push_back(store::TxId{static_cast<std::uint32_t>(i)});
    }
    kept_->save(turn, output(), number);
    if (is_committed_once_ && is_numbered && one_in(20)) return die();
    if (is_committed_once_ && is_numbered && one_in(5)) {
      kept_->committed(confirmed_);
    } else {
      confirmed_ = number;
    }
    is_committed_once_ = true;
    committed_ = live_;
    if (one_in(20)) die();
  }

  void send() {
    while (sent_ < live_.out.size() && !one_in(12)) {
      std::string_view bytes = std::string_view(live_.out).substr(sent_);
      if (one_in(2)) bytes = bytes.substr(0, 1 + below(bytes.size()));
      const ssize_t done = kept_->send(server_.get(), bytes, calls());
      if (done < 0) return;
      sent_ += static_cast<std::uint64_t>(done);
      if (one_in(40)) return die();
    }
  }

  ssize_t take() {
    std::array<char, 50'000> some;
    const ssize_t done = ::read(client_.get(), some.data(), 1 + below(some.size()));
    if (done > 0) taken_.append(some.data(), static_cast<std::size_t>(done));
    EXPECT_EQ(std::string_view(committed_.out).substr(0, taken_.size()), taken_);
    return done;
  }

  /// The next process finds what was committed, and where both streams stand.
  void die() {
    kept_.reset();
    auto opened = KeptClient::open(directory_, kId, confirmed_);
    ASSERT_TRUE(opened.has_value()) << opened.error();
    kept_ = std::move(opened.value());
    live_ = committed_;
    EXPECT_EQ(kept_->turn().last_tx, live_.last_tx);
    EXPECT_EQ(kept_->sent(), sent_);
    EXPECT_EQ(kept_->unexecuted(), asked_.substr(live_.executed, received_ - live_.executed));
    std::string scratch;
    const KeptClient::Output found = kept_->output(scratch);
    ASSERT_LE(found.first, sent_);
    EXPECT_EQ(found.end, live_.out.size());
    EXPECT_EQ(found.bytes, std::string_view(live_.out).substr(found.first));
  }

  std::mt19937_64 random_;
  const std::string directory_;
  std::uint64_t reply_max_ = 0;
  UniqueFd server_;
  UniqueFd client_;
  std::unique_ptr<KeptClient> kept_;
  State live_;
  State committed_;
  bool is_committed_once_ = false;
  std::uint64_t confirmed_ = 10;
  std::string unsent_;  ///< what the client has still to write
  std::string asked_;   ///< what it has written, all of it
  std::vector<std::uint64_t> request_ends_;
  std::uint64_t received_ = 0;
  std::uint64_t sent_ = 0;
  std::string taken_;  ///< by the client
};

TEST(KeptClientModel, EachProcessFindsWhatTheOneBeforeHasCommitted) {
  const TempDir directory;
  for (unsigned seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Life(seed, directory.path()).play(200);
    ASSERT_FALSE(HasFailure());
  }
}

}  // namespace
}  // namespace xenstored
