/* This machine, as JSON. */
#include <inttypes.h>
#include <pthread.h>

#include "base/text.h"
#include "segue.h"
#include "target/cpu.h"

static char *machine;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void describe(void) {
    const sg_cpu *cpu = sg_cpu_get();
    sg_text text = {0};
    sg_text_add(&text, "{\"cpu\": \"");
    for (const char *at = cpu->model; *at; at++)
        sg_text_add(&text, *at == '"' || *at == '\\' ? "\\%c" : "%c", *at);
    sg_text_add(&text, "\", \"isa\": \"%s\", \"isas\": [", sg_isa_get(cpu->best)->name);
    for (int isa = 0, first = 1; isa < SG_ISA_COUNT; isa++) {
        if (cpu->supported[isa]) {
            sg_text_add(&text, "%s\"%s\"", first ? "" : ", ", sg_isa_get((sg_isa)isa)->name);
            first = 0;
        }
    }
    sg_text_add(&text,
                "], \"vector_bytes\": %d, \"l1_bytes\": %" PRId64 ", \"l2_bytes\": %" PRId64
                ", \"l3_bytes\": %" PRId64 ", \"processors\": %d}",
                sg_isa_get(cpu->best)->vector_bytes, cpu->l1_bytes, cpu->l2_bytes, cpu->l3_bytes,
                cpu->processors);
    machine = sg_text_take(&text);
}

const char *sg_machine_json(void) {
    pthread_once(&once, describe);
    return machine ? machine : "{}";
}
