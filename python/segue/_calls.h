/* What choosing an entry (_calls.c, _around.c) and running it (_run.c) share. */
#ifndef SEGUE_PYTHON_CALLS_H
#define SEGUE_PYTHON_CALLS_H

#include "_entry.h"

enum { ALIGNMENT = 16 }; /* bytes, of what PyTorch allocates on a GPU at least */
enum { SETTINGS_MAX = 4 };

typedef struct call {
    PyObject *values[ARGUMENTS_MAX];  /* borrowed from args and kwargs */
    int tensor[ARGUMENTS_MAX];        /* whether it is one */
    PyObject *layouts[ARGUMENTS_MAX]; /* owned, of tensors, once they are read */
    int count;
    PyObject *setting; /* borrowed: what the thread has set, see sgpy_setting_now */
    int aligned;       /* whether all first elements on GPUs are at multiples of ALIGNMENT */
    int asks_gradient; /* whether a tensor of the call requires a gradient, once that is known */
} call;

/* Functions of PyTorch's for GPUs. */
enum {
    RAW_STREAM,     /* the address of a device's current stream */
    CURRENT_DEVICE, /* its index */
    EMPTY_STRIDED,  /* (shape, stride, dtype) on the current device, quicker than torch's own */
    IS_CAPTURING,   /* whether the current stream of the current device is being captured */
    GPU_FUNCTIONS
};

typedef struct calls {
    PyObject_HEAD PyObject
        *owner; /* borrowed: the module whose dictionary holds this object; compared only */
    PyObject *tensor_type, *parameter_type, *predicates, *is_grad_enabled, *get_num_threads,
        *empty_strided;
    PyObject *settings; /* tuple of (quick, tell): functions that say what the thread has set, as
                           autocast does; tell is asked where quick is None or says something true,
                           and answers None for what is usual */
    PyObject *gpu[GPU_FUNCTIONS]; /* None where this PyTorch lacks it */
    PyObject *switches;           /* tuple of (function, arguments) */
    PyObject *make_check; /* from a tuple of tensors, a function that tells of as many tensors
                             whether each has the type, dtype, device, sizes, strides and
                             requires_grad of its like; None, or answers None: there is none */
    PyObject *entries;    /* list, most recently used first */
    Py_ssize_t capacity;
} calls;

/* Whether a mode is on in which the original must run; -1 with an exception set. */
int sgpy_in_a_mode(const calls *self);
/* A new reference to what the thread has set: a tuple with an item for each of settings, or None
 * where all is as usual. NULL with an exception set. */
PyObject *sgpy_setting_now(const calls *self);
int sgpy_setting_fits(const entry *candidate, PyObject *setting);
/* Whether PyTorch's switches have the values expected. */
int sgpy_switches_fit(const calls *self, PyObject *expected);

/* A tensor's data_ptr(); NULL with an exception set, or where it is NULL. */
void *sgpy_address_of(PyObject *tensor);
/* Whether a function without arguments returns something true; -1 with an exception set. */
int sgpy_is_true_now(PyObject *function);
/* Runs the entry's program on new results; NULL with an exception set. */
PyObject *sgpy_run_program(const calls *self, const entry *chosen, const call *now);

/* Prepares names; -1 with an exception set. */
int sgpy_start_running(void);

#endif
