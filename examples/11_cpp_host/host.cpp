// Frames from stdin, an action for each to stdout, by a bundle's plan: a host without Python.
//
//     python describe.py engines/camera-fp16 policy.txt    once, after vla-build, on the same machine
//     ... | ./host policy.txt 100                          raw frames, and the deadline in milliseconds
//
// Exit codes: 0 the frames ended, 1 a fault, 2 wrong use, 129, 130, 143 signals. The last line is always a stop.

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "policy.hpp"

constexpr int kCameraMs = 500;  // without a frame for so long the robot stops

volatile std::sig_atomic_t signalled = 0;

// A frame into the engine's own memory. False at the end of the frames, and on a signal.
bool read_frame(Tensor& into) {
    for (size_t at = 0; at < into.bytes;) {
        pollfd camera{STDIN_FILENO, POLLIN, 0};
        int ready = signalled ? 0 : poll(&camera, 1, kCameraMs);
        if (signalled) return false;
        require(ready != 0, "the camera has given no frame in time");
        ssize_t got = ready < 0 ? -1 : read(STDIN_FILENO, into.host + at, into.bytes - at);
        if (got < 0 && errno == EINTR) continue;
        require(got >= 0, "the camera cannot be read");
        require(got > 0 || at == 0, "the frames end in the middle of one");
        if (got == 0) return false;
        at += static_cast<size_t>(got);
    }
    return true;
}

void wheels(const std::vector<double>& values) {  // your motors' driver
    for (double value : values) std::printf("%+.4f ", value);
    std::printf("\n");
    std::fflush(stdout);
}

int main(int argc, char** argv) {
    double deadline_ms = argc == 3 ? std::atof(argv[2]) : 0;
    if (!(deadline_ms > 0 && deadline_ms < 1e6)) {
        std::fprintf(stderr, "usage: host DESCRIPTION DEADLINE_MS < FRAMES\n");
        return 2;
    }
    struct sigaction ends {};  // without SA_RESTART: poll returns
    ends.sa_handler = [](int number) { signalled = number; };
    for (int number : {SIGINT, SIGTERM, SIGHUP}) sigaction(number, &ends, nullptr);
    std::vector<double> stop;
    int code = 1;
    try {
        Description said = read_description(argv[1]);
        stop.assign(said.components.size(), 0.0);
        wheels(stop);
        Policy& policy = *new Policy(std::move(said));  // never destroyed: that would wait for an engine that hangs
        policy.check();
        auto patience = std::chrono::microseconds(static_cast<int64_t>(deadline_ms * 1e3));
        while (read_frame(policy.frame())) {
            std::vector<double> action = policy.act(Clock::now() + patience);
            if (!signalled) wheels(action);
        }
        code = signalled ? 128 + signalled : 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "stopped: %s\n", error.what());
    }
    wheels(stop);
    std::_Exit(code);
}
