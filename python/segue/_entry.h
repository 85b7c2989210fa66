/* Entry: what was prepared for one signature; Calls (in _calls.c) chooses among entries. */
#ifndef SEGUE_PYTHON_ENTRY_H
#define SEGUE_PYTHON_ENTRY_H

#include "_core.h"

enum { ARGUMENTS_MAX = 16, TENSORS_MAX = 256, OUTPUTS_MAX = 32 };

enum {
    NAMES,     /* tuple: names of the keyword arguments, as they are passed */
    ARGUMENTS, /* tuple of (True, layout) or (False, value) */
    GUARD,     /* Guard */
    TENSORS,   /* tuple: tensors of the module that the program reads */
    LAYOUTS,   /* tuple: the layout of each */
    BINDING,   /* tuple of int: program input from argument i, or from tensor -1 - i */
    PROGRAM,   /* Program or None */
    OUTPUTS,   /* tuple of (arguments, keywords) for torch.empty_strided; on a GPU the arguments of
                  its quicker twin come third */
    REBUILD,   /* None: the one output itself; else called with the list of outputs */
    RUNNER,    /* called with (arguments, tensors) instead of a program; None: the original runs */
    GRADIENT,  /* called with (module, args, kwargs) when a result may need a gradient */
    PLACE,     /* None for the CPU; else (device, aligned, switches, workspace), see below */
    SETTING,   /* what the call must be made under, as Calls' setting() tells it; None: nothing */
    FIELDS
};

/* Layouts are (shape, stride, dtype, device), device being -1 for the CPU. The PLACE of an entry
 * for a GPU: the device; whether all first elements must be aligned to 16 bytes or must not be; the
 * values of PyTorch's switches that it was prepared for, or None; and how its workspace is made, as
 * in OUTPUTS, or None. A fourth item there is the key under which a thread keeps it. */
typedef struct entry {
    PyObject_HEAD PyObject *fields[FIELDS];
    int binding[TENSORS_MAX];
    int input_count;
    int device; /* -1: the CPU */
    int aligned;
    PyObject *check; /* see make_check of _calls.h; NULL: none yet */
    int checks_made;
    int asks_gradient; /* whether a tensor of the call that `check` was made of requires one */
    PyObject *switches, *workspace; /* borrowed of PLACE; NULL: none */
} entry;

extern PyTypeObject *sgpy_entry_type;

#endif
