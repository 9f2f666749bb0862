// One attack by name. It prints "broke out" where it succeeds, "held" where something stopped it.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

static int say(int success) {
    puts(success ? "broke out" : "held");
    return 0;
}

static int can_read(const char *path) {
    char byte;
    int file = open(path, O_RDONLY);
    return file >= 0 && read(file, &byte, 1) == 1;
}

static int forks(int wanted) {
    for (int made = 0; made < wanted; made++) {
        pid_t pid = fork();
        if (pid < 0) return say(0);
        if (pid == 0) for (;;) pause();
    }
    return say(1);
}

static int touch_memory(void) {
    size_t step = 16 << 20;
    for (size_t total = 0; total < ((size_t)10 << 30); total += step) {
        char *block = malloc(step);
        if (!block) return say(0);
        memset(block, 1, step);
    }
    return say(1);
}

static int grandchild(int own_session) {
    if (fork() == 0) {
        if (own_session) setsid();
        if (fork() == 0) {
            close(0), close(1), close(2);
            for (;;) pause();
        }
        _exit(0);
    }
    usleep(100000);
    return say(0);
}

static int connect_to(int type, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int file = socket(AF_INET, type, 0);
    if (file < 0) return say(0);
    if (type == SOCK_DGRAM) return say(sendto(file, "x", 1, 0, (void *)&to, sizeof to) == 1);
    return say(connect(file, (void *)&to, sizeof to) == 0);
}

static int files(int wanted) {
    char name[32];
    for (int made = 0; made < wanted; made++) {
        snprintf(name, sizeof name, "f%d", made);
        int file = open(name, O_CREAT | O_WRONLY, 0600);
        if (file < 0) return say(0);
        close(file);
    }
    return say(1);
}

static int large_file(size_t wanted) {
    static char block[1 << 20];
    signal(SIGXFSZ, SIG_IGN);
    int file = open("large", O_CREAT | O_WRONLY, 0600);
    for (size_t written = 0; written < wanted; written += sizeof block)
        if (write(file, block, sizeof block) != sizeof block) return say(0);
    return say(1);
}

static int many_large_files(int wanted) {
    for (int made = 0; made < wanted; made++) {
        static char block[1 << 20];
        char name[32];
        snprintf(name, sizeof name, "m%d", made);
        int file = open(name, O_CREAT | O_WRONLY, 0600);
        if (file < 0 || write(file, block, sizeof block) != sizeof block) return say(0);
        close(file);
    }
    return say(1);
}

// Arguments are invalid on purpose: a call that reaches the kernel fails with anything but ENOSYS.
static int forbidden_calls(void) {
    long calls[] = {SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_keyctl, SYS_add_key, SYS_request_key,
                    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_bpf, SYS_io_uring_setup, SYS_io_uring_enter,
                    SYS_perf_event_open, SYS_userfaultfd, SYS_unshare, SYS_setns, SYS_socket, SYS_connect, SYS_bind,
                    SYS_kexec_load, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_open_by_handle_at,
                    SYS_name_to_handle_at, SYS_personality, SYS_seccomp, SYS_setuid, SYS_mknodat, SYS_reboot, SYS_swapon,
                    SYS_acct, SYS_settimeofday, SYS_pidfd_open, SYS_pidfd_getfd, SYS_move_pages, SYS_kcmp, SYS_quotactl,
                    SYS_fsopen, SYS_move_mount, SYS_open_tree, SYS_fanotify_init, SYS_process_madvise, SYS_clone3};
    int reached = 0;
    for (size_t at = 0; at < sizeof calls / sizeof *calls; at++)
        if (syscall(calls[at], -1L, -1L, -1L, -1L, -1L, -1L) != -1 || errno != ENOSYS) reached++;
    // Allowed calls with arguments that are not.
    long child = syscall(SYS_clone, 0x10000000L | SIGCHLD, 0, 0, 0, 0);
    if (child == 0) _exit(0);
    if (child != -1 || errno != ENOSYS) reached++;
    if (syscall(SYS_prlimit64, 1L, 7L, 0, 0) != -1 || errno != ENOSYS) reached++;
    if (syscall(SYS_socketpair, AF_UNIX, SOCK_DGRAM, 0, 0) != -1 || errno != ENOSYS) reached++;
    if (syscall(SYS_prctl, 1L, 0L, 0L, 0L, 0L) != -1 || errno != ENOSYS) reached++;
    return say(reached != 0);
}

static int descriptors(void) {
    for (int file = 3; file < 4096; file++)
        if (fcntl(file, F_GETFD) != -1) return say(1);
    return say(0);
}

static int environment(void) {
    int count = 0;
    while (environ[count]) count++;
    return say(count != 2);
}

static int identity(void) {
    return say(getuid() == 0 || geteuid() == 0 || setuid(0) == 0);
}

// Function calls: the request is {"nonce": "…", "function": …, "arguments": …}.
static int call(const char *how) {
    char request[4096], nonce[64], record[256];
    ssize_t length = read(3, request, sizeof request - 1);
    if (length <= 0) return 1;
    request[length] = 0;
    if (sscanf(request, "{\"nonce\": \"%63[0-9a-f]\"", nonce) != 1) return 1;
    if (!strcmp(how, "forge")) memset(nonce, '0', strlen(nonce));
    if (!strcmp(how, "silent")) return 0;
    snprintf(record, sizeof record, "{\"nonce\": \"%s\", \"value\": %s}\n", nonce, !strcmp(how, "wrong") ? "4" : "3");
    for (int times = !strcmp(how, "twice") ? 2 : 1; times > 0; times--)
        if (write(4, record, strlen(record)) < 0) return 1;
    return 0;
}

int main(int count, char **words) {
    const char *name = count > 1 ? words[1] : "";
    const char *word = count > 2 ? words[2] : "";
    int number = atoi(word);
    setvbuf(stdout, NULL, _IONBF, 0);
    if (!strcmp(name, "forks")) return forks(number);
    if (!strcmp(name, "reserve"))
        return say(mmap(0, (size_t)10 << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED);
    if (!strcmp(name, "touch")) return touch_memory();
    if (!strcmp(name, "spin")) for (;;) {}
    if (!strcmp(name, "spin-children")) { fork(); for (;;) {} }
    if (!strcmp(name, "sleep")) for (;;) pause();
    if (!strcmp(name, "flood")) for (;;) if (write(number, "0123456789abcdef", 16) < 0) return 1;
    if (!strcmp(name, "grandchild")) return grandchild(number);
    if (!strcmp(name, "write")) return say(open(word, O_CREAT | O_WRONLY, 0600) >= 0);
    if (!strcmp(name, "read")) return say(can_read(word));
    if (!strcmp(name, "link")) return say(symlink(word, "link") == 0 && can_read("link"));
    if (!strcmp(name, "tcp")) return connect_to(SOCK_STREAM, number);
    if (!strcmp(name, "udp")) return connect_to(SOCK_DGRAM, number);
    if (!strcmp(name, "ptrace")) return say(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
    if (!strcmp(name, "kill")) return say(kill(number, 0) == 0);
    if (!strcmp(name, "kill-all")) { kill(-1, SIGKILL); return say(0); }
    if (!strcmp(name, "files")) return files(number);
    if (!strcmp(name, "large-file")) return large_file((size_t)number << 20);
    if (!strcmp(name, "large-files")) return many_large_files(number);
    if (!strcmp(name, "calls")) return forbidden_calls();
    if (!strcmp(name, "descriptors")) return descriptors();
    if (!strcmp(name, "environment")) return environment();
    if (!strcmp(name, "identity")) return identity();
    if (!strcmp(name, "call")) return call(word);
    if (!strcmp(name, "say")) { puts(word); return 0; }
    if (!strcmp(name, "exit")) return number;
    if (!strcmp(name, "crash")) { *(volatile int *)0 = 1; return 0; }
    if (!strcmp(name, "abort")) abort();
    return 2;
}
