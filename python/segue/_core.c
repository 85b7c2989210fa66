/* The module itself: exceptions, what there is, wisdom, and conversions that the types share. */
#include "_core.h"

#include <string.h>

PyObject *sgpy_error, *sgpy_not_applicable;

static const char *const dtype_names[SG_DTYPE_COUNT] = {
    [SG_BOOL] = "bool", [SG_F16] = "f16", [SG_BF16] = "bf16",
    [SG_F32] = "f32",   [SG_F64] = "f64", [SG_OPAQUE] = "opaque",
};

PyObject *sgpy_raise(sg_status status, const sg_context *context) {
    const char *message = context ? sg_context_message(context) : "";
    if (status == SG_OUT_OF_MEMORY)
        return PyErr_NoMemory();
    if (!message[0])
        message = status == SG_NOT_APPLICABLE ? "nothing here runs this graph faster than its host"
                                              : "the library refused the call";
    PyErr_SetString(status == SG_NOT_APPLICABLE ? sgpy_not_applicable
                    : status == SG_IO           ? PyExc_OSError
                                                : sgpy_error,
                    message);
    return NULL;
}

PyObject *sgpy_take_string(char *text) {
    PyObject *string = PyUnicode_FromString(text ? text : "");
    sg_string_free(text);
    return string;
}

PyTypeObject *sgpy_add_type(PyObject *module, PyType_Spec *spec, const char *name) {
    PyObject *type = PyType_FromSpec(spec);
    if (type && PyModule_AddObjectRef(module, name, type) < 0)
        Py_CLEAR(type);
    return (PyTypeObject *)type;
}

/* ---- layouts ------------------------------------------------------------------------------- */

static int read_sizes(PyObject *object, int64_t *values) {
    PyObject *sizes = PySequence_Tuple(object);
    if (!sizes)
        return -1;
    Py_ssize_t rank = PyTuple_Size(sizes);
    if (rank > SG_RANK_MAX) {
        PyErr_Format(sgpy_error, "a tensor of rank %zd is refused, at most %d dimensions are taken",
                     rank, SG_RANK_MAX);
        rank = -1;
    }
    for (Py_ssize_t i = 0; i < rank; i++) {
        values[i] = PyLong_AsLongLong(PyTuple_GetItem(sizes, i));
        if (values[i] == -1 && PyErr_Occurred()) {
            rank = -1;
            break;
        }
    }
    Py_DECREF(sizes);
    return (int)rank;
}

int sgpy_layout_from(PyObject *object, sg_layout *layout) {
    PyObject *dtype, *sizes, *strides;
    if (!PyTuple_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "a layout is a tuple (dtype, sizes, strides)");
        return -1;
    }
    if (!PyArg_ParseTuple(object, "UOO;a layout is (dtype, sizes, strides)", &dtype, &sizes,
                          &strides))
        return -1;
    memset(layout, 0, sizeof *layout);
    int code = 0;
    while (code < SG_DTYPE_COUNT && PyUnicode_CompareWithASCIIString(dtype, dtype_names[code]) != 0)
        code++;
    if (code == SG_DTYPE_COUNT) {
        PyErr_Format(sgpy_error, "no dtype is called %R; there are bool, f16, bf16, f32 and f64",
                     dtype);
        return -1;
    }
    layout->dtype = (sg_dtype)code;
    layout->rank = read_sizes(sizes, layout->size);
    if (layout->rank < 0)
        return -1;
    int count = read_sizes(strides, layout->stride);
    if (count < 0)
        return -1;
    if (count != layout->rank) {
        PyErr_Format(sgpy_error, "a layout has %d sizes and %d strides, as many are needed",
                     layout->rank, count);
        return -1;
    }
    return 0;
}

static PyObject *sizes_to(const int64_t *values, int rank) {
    PyObject *tuple = PyTuple_New(rank);
    for (int i = 0; tuple && i < rank; i++) {
        PyObject *value = PyLong_FromLongLong(values[i]);
        if (!value || PyTuple_SetItem(tuple, i, value) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

PyObject *sgpy_layout_to(const sg_layout *layout) {
    PyObject *sizes = sizes_to(layout->size, layout->rank);
    PyObject *strides = sizes_to(layout->stride, layout->rank);
    if (!sizes || !strides) {
        Py_XDECREF(sizes);
        Py_XDECREF(strides);
        return NULL;
    }
    return Py_BuildValue("(sNN)", dtype_names[layout->dtype], sizes, strides);
}

int sgpy_layouts_from(PyObject *sequence, sg_layout **layouts, int *count) {
    *layouts = NULL;
    *count = 0;
    if (sequence == Py_None)
        return 0;
    PyObject *items = PySequence_Tuple(sequence);
    if (!items)
        return -1;
    Py_ssize_t length = PyTuple_Size(items);
    sg_layout *made = PyMem_Calloc((size_t)length + 1, sizeof *made);
    int failed = !made;
    if (failed)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; !failed && i < length; i++)
        failed = sgpy_layout_from(PyTuple_GetItem(items, i), &made[i]) < 0;
    Py_DECREF(items);
    if (failed) {
        PyMem_Free(made);
        return -1;
    }
    *layouts = made;
    *count = (int)length;
    return 0;
}

int sgpy_pointers_from(PyObject *sequence, void ***pointers, int *count) {
    PyObject *items = PySequence_Tuple(sequence);
    if (!items)
        return -1;
    Py_ssize_t length = PyTuple_Size(items);
    void **made = PyMem_Calloc((size_t)length + 1, sizeof *made);
    int failed = !made;
    if (failed)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; !failed && i < length; i++) {
        made[i] = PyLong_AsVoidPtr(PyTuple_GetItem(items, i));
        failed = !made[i] && PyErr_Occurred();
    }
    Py_DECREF(items);
    if (failed) {
        PyMem_Free(made);
        return -1;
    }
    *pointers = made;
    *count = (int)length;
    return 0;
}

/* ---- functions ----------------------------------------------------------------------------- */

static PyObject *operators_json(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return PyUnicode_FromString(sg_operators_json());
}

static PyObject *machine_json(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return PyUnicode_FromString(sg_machine_json());
}

static PyObject *wisdom_export(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    sg_context *context = NULL;
    char *text = NULL;
    sg_status status = sg_context_create(&context);
    if (status == SG_OK)
        status = sg_wisdom_export(context, &text);
    PyObject *result = status == SG_OK ? sgpy_take_string(text) : sgpy_raise(status, context);
    sg_context_destroy(context);
    return result;
}

static PyObject *wisdom_import(PyObject *module, PyObject *argument) {
    (void)module;
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(argument, &length);
    if (!text)
        return NULL;
    sg_context *context = NULL;
    sg_status status = sg_context_create(&context);
    if (status == SG_OK)
        status = sg_wisdom_import(context, text, (size_t)length);
    PyObject *result = status == SG_OK ? Py_NewRef(Py_None) : sgpy_raise(status, context);
    sg_context_destroy(context);
    return result;
}

static PyObject *wisdom_forget(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    sg_wisdom_forget();
    Py_RETURN_NONE;
}

static PyObject *set_nvrtc(PyObject *module, PyObject *argument) {
    (void)module;
    const char *path = PyUnicode_AsUTF8AndSize(argument, NULL);
    if (!path)
        return NULL;
    sg_cuda_set_nvrtc(path);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"operators_json", operators_json, METH_NOARGS, "The operator table, as JSON."},
    {"machine_json", machine_json, METH_NOARGS, "This machine as Segue sees it, as JSON."},
    {"set_nvrtc", set_nvrtc, METH_O, "Says where NVRTC lies: the path of the library."},
    {"share_threads", sgpy_share_threads, METH_NOARGS,
     "Runs programs on PyTorch's threads from now on; False where they cannot be found."},
    {"wisdom_export", wisdom_export, METH_NOARGS, "Plans remembered from measuring, as text."},
    {"wisdom_import", wisdom_import, METH_O, "Takes in exported plans, all or nothing."},
    {"wisdom_forget", wisdom_forget, METH_NOARGS, "Forgets all remembered plans."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "segue._core",
    "Handles of the C library.",
    -1,
    functions,
    NULL,
    NULL,
    NULL,
    NULL,
};

static int add_error(PyObject *module, PyObject **error, const char *name, const char *doc,
                     PyObject *base) {
    char full[64];
    PyOS_snprintf(full, sizeof full, "segue.%s", name);
    *error = PyErr_NewExceptionWithDoc(full, doc, base, NULL);
    return *error ? PyModule_AddObjectRef(module, name, *error) : -1;
}

PyMODINIT_FUNC PyInit__core(void) {
    PyObject *module = PyModule_Create(&definition);
    if (!module)
        return NULL;
    if (add_error(module, &sgpy_error, "SegueError",
                  "A graph or an argument breaks a rule; the message says which.",
                  PyExc_ValueError) < 0 ||
        add_error(module, &sgpy_not_applicable, "NotApplicable",
                  "The graph is valid, but nothing here runs it faster than its host.",
                  sgpy_error) < 0 ||
        PyModule_AddStringConstant(module, "version", sg_version()) < 0 ||
        sgpy_add_graph(module) < 0 || sgpy_add_program(module) < 0 || sgpy_add_guard(module) < 0 ||
        sgpy_add_entry(module) < 0 || sgpy_add_calls(module) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
