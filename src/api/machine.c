/* This machine, as JSON. */
#include <inttypes.h>
#include <pthread.h>

#include "base/text.h"
#include "run/cuda/driver.h"
#include "segue.h"
#include "target/cpu.h"

static char *machine;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void add_string(sg_text *text, const char *string) {
    sg_text_add(text, "\"");
    for (const char *at = string; *at; at++)
        sg_text_add(text, *at == '"' || *at == '\\' ? "\\%c" : "%c", *at);
    sg_text_add(text, "\"");
}

/* Every GPU, or why there is none. */
static void describe_gpus(sg_text *text) {
    sg_context context = {0};
    sg_gpu gpu;
    sg_text_add(text, ", \"gpus\": [");
    for (int i = 0; sg_cuda_describe(&context, i, &gpu) == SG_OK; i++) {
        sg_text_add(text, "%s{\"name\": ", i ? ", " : "");
        add_string(text, gpu.name);
        sg_text_add(
            text, ", \"architecture\": \"%s\", \"multiprocessors\": %d, \"l2_bytes\": %" PRId64 "}",
            gpu.architecture, gpu.multiprocessors, gpu.l2);
    }
    sg_text_add(text, "]");
    const sg_cuda_driver *driver;
    if (sg_cuda_open(&context, &driver) != SG_OK) {
        sg_text_add(text, ", \"no_gpus\": ");
        add_string(text, context.message);
    }
}

static void describe(void) {
    const sg_cpu *cpu = sg_cpu_get();
    sg_text text = {0};
    sg_text_add(&text, "{\"cpu\": ");
    add_string(&text, cpu->model);
    sg_text_add(&text, ", \"isa\": \"%s\", \"isas\": [", sg_isa_get(cpu->best)->name);
    for (int isa = 0, first = 1; isa < SG_ISA_COUNT; isa++) {
        if (cpu->supported[isa]) {
            sg_text_add(&text, "%s\"%s\"", first ? "" : ", ", sg_isa_get((sg_isa)isa)->name);
            first = 0;
        }
    }
    sg_text_add(&text,
                "], \"vector_bytes\": %d, \"l1_bytes\": %" PRId64 ", \"l2_bytes\": %" PRId64
                ", \"l3_bytes\": %" PRId64 ", \"processors\": %d",
                sg_isa_get(cpu->best)->vector_bytes, cpu->l1_bytes, cpu->l2_bytes, cpu->l3_bytes,
                cpu->processors);
    describe_gpus(&text);
    sg_text_add(&text, "}");
    machine = sg_text_take(&text);
}

const char *sg_machine_json(void) {
    pthread_once(&once, describe);
    return machine ? machine : "{}";
}
