/*
 * A plugin of QEMU 7.2 and later (qemu-user, version 1 of the plugin interface): counts the guest instructions between
 * marks, so that start-up and loading stay out.
 *
 * A mark is a system call that Linux does not have, MARK with 1 (start) or 0 (stop) as its argument; at each stop the
 * plugin prints one line, "instructions N". With the argument blocks=on it then prints a line "block ADDRESS N" for each
 * straight-line piece of code that ran, with the address of its first instruction in the guest. Debian ships no header
 * of the interface, so what is used is declared here.
 */

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))
#define MARK 0x4d4958 /* "MIX" */

typedef uint64_t plugin_id;
struct block; /* straight-line guest code, translated once and run often */

enum inline_operation { ADD_TO_U64 = 0 };

typedef void (*on_translation)(plugin_id id, struct block *block);
typedef void (*on_system_call)(plugin_id id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                               uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);

extern size_t qemu_plugin_tb_n_insns(const struct block *block);
extern uint64_t qemu_plugin_tb_vaddr(const struct block *block);
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, on_translation callback);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct block *block, enum inline_operation operation, void *counter,
                                                     uint64_t amount);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id id, on_system_call callback);
extern void qemu_plugin_outs(const char *text);

EXPORTED int qemu_plugin_version = 1;

struct counted {
    uint64_t address, executed;
    struct counted *next;
};

static uint64_t executed; /* instructions since the program began */
static uint64_t at_start;
static int by_blocks;
static struct counted *blocks;

static void count(plugin_id id, struct block *block)
{
    uint64_t instructions = qemu_plugin_tb_n_insns(block);
    struct counted *counted;

    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_TO_U64, &executed, instructions);
    if (!by_blocks || !(counted = calloc(1, sizeof *counted)))
        return;
    counted->address = qemu_plugin_tb_vaddr(block);
    counted->next = blocks;
    blocks = counted;
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_TO_U64, &counted->executed, instructions);
}

static void print_blocks(void)
{
    char line[96];
    struct counted *each;

    for (each = blocks; each; each = each->next) {
        if (!each->executed)
            continue;
        snprintf(line, sizeof line, "block %" PRIx64 " %" PRIu64 "\n", each->address, each->executed);
        qemu_plugin_outs(line);
    }
}

static void mark(plugin_id id, unsigned int cpu, int64_t number, uint64_t starts, uint64_t a2, uint64_t a3, uint64_t a4,
                 uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    char line[64];
    struct counted *each;

    (void)id, (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != MARK)
        return;
    if (starts) {
        at_start = executed;
        for (each = blocks; each; each = each->next)
            each->executed = 0;
    } else {
        snprintf(line, sizeof line, "instructions %" PRIu64 "\n", executed - at_start);
        qemu_plugin_outs(line);
        print_blocks();
    }
}

EXPORTED int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    by_blocks = argc > 0 && strcmp(argv[0], "blocks=on") == 0;
    qemu_plugin_register_vcpu_tb_trans_cb(id, count);
    qemu_plugin_register_vcpu_syscall_cb(id, mark);
    return 0;
}
