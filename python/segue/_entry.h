/* Entry: what was prepared for one signature; Calls (in _calls.c) chooses among entries. */
#ifndef SEGUE_PYTHON_ENTRY_H
#define SEGUE_PYTHON_ENTRY_H

#include "_core.h"

enum { ARGUMENTS_MAX = 16, TENSORS_MAX = 256, OUTPUTS_MAX = 32 };

enum {
    NAMES,     /* tuple: names of the keyword arguments, as they are passed */
    ARGUMENTS, /* tuple of (True, (shape, stride, dtype)) or (False, value) */
    GUARD,     /* Guard */
    TENSORS,   /* tuple: tensors of the module that the program reads */
    LAYOUTS,   /* tuple: (shape, stride, dtype) of each */
    BINDING,   /* tuple of int: program input from argument i, or from tensor -1 - i */
    PROGRAM,   /* Program or None */
    OUTPUTS,   /* tuple of (arguments, keywords) for torch.empty_strided */
    REBUILD,   /* None: the one output itself; else called with the list of outputs */
    RUNNER,    /* called with (arguments, tensors) instead of a program; None: the original runs */
    GRADIENT,  /* called with (module, args, kwargs) when a result may need a gradient */
    FIELDS
};

typedef struct entry {
    PyObject_HEAD PyObject *fields[FIELDS];
    int binding[TENSORS_MAX];
    int input_count;
} entry;

extern PyTypeObject *sgpy_entry_type;

#endif
