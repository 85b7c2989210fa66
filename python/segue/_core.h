/* The extension segue._core: handles of libsegue as Python objects, and the check that stands
 * before every call of a drop-in. No numerics and nothing of PyTorch's headers: tensors are asked
 * through their Python attributes. Only the stable ABI of Python 3.10. One interpreter; all state
 * that is not in an object is set once at import. */
#ifndef SEGUE_PYTHON_CORE_H
#define SEGUE_PYTHON_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "segue.h"

/* Exceptions: segue.SegueError is a ValueError, NotApplicable is a SegueError. */
extern PyObject *sgpy_error, *sgpy_not_applicable;

typedef struct sgpy_graph {
    PyObject_HEAD sg_context *context;
    sg_graph *graph;
} sgpy_graph;

typedef struct sgpy_program {
    PyObject_HEAD sg_program *program;
} sgpy_program;

extern PyTypeObject *sgpy_graph_type, *sgpy_program_type;

/* Raises the exception for a status; always returns NULL. context may be NULL. */
PyObject *sgpy_raise(sg_status status, const sg_context *context);

/* (dtype name, sizes, strides) and back; -1 or NULL with an exception set. */
int sgpy_layout_from(PyObject *object, sg_layout *layout);
PyObject *sgpy_layout_to(const sg_layout *layout);
/* A sequence of layouts into a new array, freed with PyMem_Free; None gives NULL and count 0. */
int sgpy_layouts_from(PyObject *sequence, sg_layout **layouts, int *count);
/* A sequence of addresses into a new array, freed with PyMem_Free. */
int sgpy_pointers_from(PyObject *sequence, void ***pointers, int *count);

/* sg_program_launch without the interpreter's lock; -1 with an exception set. */
int sgpy_launch(const sg_program *program, int device, void *stream, const void *const *inputs,
                void *const *outputs, void *workspace);

/* Module function share_threads: True when PyTorch's threads were found. */
PyObject *sgpy_share_threads(PyObject *module, PyObject *unused);

/* A new Python string from a string of the library's, which is freed. */
PyObject *sgpy_take_string(char *text);

/* Each makes its types and adds them to the module; -1 with an exception set. */
int sgpy_add_graph(PyObject *module);
int sgpy_add_program(PyObject *module);
int sgpy_add_entry(PyObject *module);
int sgpy_add_calls(PyObject *module);
int sgpy_add_guard(PyObject *module);

/* Guard: 1 when the containers are as they were, else 0. */
extern PyTypeObject *sgpy_guard_type;
int sgpy_guard_holds(PyObject *guard);

/* Adds a heap type made from spec; NULL with an exception set. The reference is the module's and
 * ours. */
PyTypeObject *sgpy_add_type(PyObject *module, PyType_Spec *spec, const char *name);

#endif
