#include "plan/wisdom.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static const char HEADER[] = "segue-wisdom 1";

typedef struct sg_wisdom_entry {
    char *key;
    char strategy[32];
    sg_cpu_plan plan;
} sg_wisdom_entry;

typedef struct sg_wisdom {
    sg_wisdom_entry *entries;
    int count;
} sg_wisdom;

static sg_wisdom wisdom;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- keys ---------------------------------------------------------------------------------- */

static void add_numbers(sg_text *text, const char *name, const int64_t *values, int count) {
    for (int i = 0; i < count; i++)
        sg_text_add(text, "%s%" PRId64, i ? "," : name, values[i]);
}

/* NULL when memory ran out; to be freed. */
static char *make_key(const sg_problem *problem, const sg_target *target) {
    sg_text text = {0};
    sg_text_add(&text, "%s/%d %s", sg_isa_get(target->isa)->name, target->threads,
                sg_dtype_name(problem->compute));
    add_numbers(&text, " size=", problem->size, SG_ROLE_COUNT);
    sg_text_add(&text, " walk=%u", problem->walk);
    if (problem->has_convolution) {
        const sg_convolution *convolution = &problem->convolution;
        sg_text_add(&text, " in=%" PRId64 " groups=%" PRId64 " from=%s", convolution->in_channels,
                    convolution->groups, sg_dtype_name(convolution->input.dtype));
        add_numbers(&text, " kernel=", convolution->kernel, SG_SPATIAL_MAX);
        add_numbers(&text, " stride=", convolution->stride, SG_SPATIAL_MAX);
        add_numbers(&text, " padding=", convolution->padding, SG_SPATIAL_MAX);
        add_numbers(&text, " dilation=", convolution->dilation, SG_SPATIAL_MAX);
        add_numbers(&text, " lies=", convolution->input.stride, SG_ROLE_COUNT);
    }
    for (int i = 0; i < problem->access_count; i++)
        add_numbers(&text, " reads=", problem->accesses[i].operand.stride, SG_ROLE_COUNT);
    for (int i = 0; i < problem->output_count; i++)
        add_numbers(&text, " writes=", problem->outputs[i].stride, SG_ROLE_COUNT);
    sg_text_add(&text, " ops=");
    for (sg_value value = 0; value < problem->region->graph->node_count; value++) {
        if (problem->region->members[value].in)
            sg_text_add(&text, "%s;",
                        sg_op_get(sg_graph_node(problem->region->graph, value)->op)->name);
    }
    return sg_text_take(&text);
}

/* ---- the table; callers hold the lock ------------------------------------------------------- */

static sg_wisdom_entry *find_entry(const sg_wisdom *table, const char *key) {
    for (int i = 0; i < table->count; i++) {
        if (strcmp(table->entries[i].key, key) == 0)
            return &table->entries[i];
    }
    return NULL;
}

static void clear(sg_wisdom *table) {
    for (int i = 0; i < table->count; i++)
        free(table->entries[i].key);
    free(table->entries);
    *table = (sg_wisdom){0};
}

/* Copies the strings; false when memory ran out. */
static bool put(sg_wisdom *table, const char *key, const char *strategy, const sg_cpu_plan *plan) {
    sg_wisdom_entry *entry = find_entry(table, key);
    if (!entry) {
        sg_wisdom_entry *entries =
            realloc(table->entries, sizeof *entries * (size_t)(table->count + 1));
        if (!entries)
            return false;
        table->entries = entries;
        char *copy = strdup(key);
        if (!copy)
            return false;
        entry = &entries[table->count++];
        *entry = (sg_wisdom_entry){.key = copy};
    }
    snprintf(entry->strategy, sizeof entry->strategy, "%s", strategy);
    entry->plan = *plan;
    return true;
}

bool sg_wisdom_find(const sg_problem *problem, const sg_target *target, char *strategy,
                    size_t strategy_size, sg_cpu_plan *plan) {
    pthread_mutex_lock(&lock);
    char *key = wisdom.count ? make_key(problem, target) : NULL;
    const sg_wisdom_entry *entry = key ? find_entry(&wisdom, key) : NULL;
    if (entry) {
        snprintf(strategy, strategy_size, "%s", entry->strategy);
        *plan = entry->plan;
    }
    pthread_mutex_unlock(&lock);
    free(key);
    return entry != NULL;
}

sg_status sg_wisdom_remember(const sg_problem *problem, const sg_target *target,
                             const char *strategy, const sg_cpu_plan *plan) {
    char *key = make_key(problem, target);
    pthread_mutex_lock(&lock);
    bool ok = key && put(&wisdom, key, strategy, plan);
    pthread_mutex_unlock(&lock);
    free(key);
    return ok ? SG_OK : sg_fail_memory(problem->region->graph->context);
}

/* ---- text ---------------------------------------------------------------------------------- */

void sg_wisdom_forget(void) {
    pthread_mutex_lock(&lock);
    clear(&wisdom);
    pthread_mutex_unlock(&lock);
}

sg_status sg_wisdom_export(sg_context *context, char **text) {
    sg_text out = {0};
    sg_text_add(&out, "%s\n", HEADER);
    pthread_mutex_lock(&lock);
    for (int i = 0; i < wisdom.count; i++) {
        const sg_wisdom_entry *entry = &wisdom.entries[i];
        sg_text_add(&out, "%s = %s", entry->key, entry->strategy);
        add_numbers(&out, " box=", entry->plan.box, 3);
        sg_text_add(&out, " run=%" PRId64 " chunk=%" PRId64 " sum=%" PRId64 "\n", entry->plan.run,
                    entry->plan.chunk, entry->plan.sum);
    }
    pthread_mutex_unlock(&lock);
    *text = sg_text_take(&out);
    return *text ? SG_OK : sg_fail_memory(context);
}

/* A plan that no planner would write must not reach a kernel. */
static bool sane(const sg_cpu_plan *plan) {
    bool ok = plan->run > 0 && plan->run <= 1 << 20 && plan->run % SG_RUN_STEP == 0;
    for (int axis = 0; axis < 3; axis++)
        ok = ok && plan->box[axis] > 0 && plan->box[axis] <= 1 << 24;
    return ok && plan->chunk > 0 && plan->chunk <= 1 << 24 && plan->sum > 0;
}

/* The number after name; moves *at behind it. False when something else stands there. */
static bool read_number(char **at, const char *name, int64_t *value) {
    size_t length = strlen(name);
    if (strncmp(*at, name, length) != 0)
        return false;
    char *digits = *at + length;
    errno = 0;
    *value = strtoll(digits, at, 10);
    return errno == 0 && *at != digits;
}

static bool read_line(sg_wisdom *table, char *line) {
    char *middle = strstr(line, " = ");
    sg_cpu_plan plan;
    if (!middle)
        return false;
    *middle = '\0';
    char *strategy = middle + 3, *at = strchr(strategy, ' ');
    if (!at || at == strategy)
        return false;
    *at++ = '\0';
    bool read = read_number(&at, "box=", &plan.box[0]) && read_number(&at, ",", &plan.box[1]) &&
                read_number(&at, ",", &plan.box[2]) && read_number(&at, " run=", &plan.run) &&
                read_number(&at, " chunk=", &plan.chunk) && read_number(&at, " sum=", &plan.sum);
    return read && *at == '\0' && sane(&plan) && put(table, line, strategy, &plan);
}

sg_status sg_wisdom_import(sg_context *context, const char *text, size_t length) {
    if (memchr(text, '\0', length))
        return sg_fail(context, SG_INVALID, "wisdom: the text holds a zero byte");
    char *copy = strndup(text, length);
    if (!copy)
        return sg_fail_memory(context);
    sg_wisdom read = {0};
    int number = 0;
    bool ok = true;
    char *rest = copy;
    for (char *line = strsep(&rest, "\n"); line && ok; line = strsep(&rest, "\n")) {
        number++;
        if (number == 1)
            ok = strcmp(line, HEADER) == 0;
        else
            ok = line[0] == '\0' || read_line(&read, line);
    }
    pthread_mutex_lock(&lock);
    for (int i = 0; i < read.count && ok; i++)
        ok = put(&wisdom, read.entries[i].key, read.entries[i].strategy, &read.entries[i].plan);
    pthread_mutex_unlock(&lock);
    clear(&read);
    free(copy);
    return ok ? SG_OK
              : sg_fail(context, SG_INVALID,
                        "wisdom: line %d is not of the form \"key = strategy "
                        "box=D,H,W run=R chunk=C sum=S\" under the header \"%s\"",
                        number, HEADER);
}
