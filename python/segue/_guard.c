/* Guard: tells in some hundred nanoseconds whether a module is still as it was captured.
 *
 * What forward() reads of a module lives in dictionaries and lists: attributes, parameters,
 * buffers, submodules, hooks, the training flag. A guard remembers, for a list of such containers,
 * each key and value by identity, and holds them so that no address is used again for something
 * else. An in-place change of a tensor's data is not a change here, and need not be: programs read
 * tensors at every call. */
#include "_core.h"

PyTypeObject *sgpy_guard_type;

typedef struct guarded {
    PyObject *container;
    Py_ssize_t count;
    PyObject **items; /* lists: values; dictionaries: keys and values by turns */
} guarded;

typedef struct guard {
    PyObject_HEAD Py_ssize_t count;
    guarded *containers;
} guard;

static int remember(guarded *entry, PyObject *container) {
    int is_list = PyList_Check(container);
    if (!is_list && !PyDict_Check(container)) {
        PyErr_SetString(PyExc_TypeError, "a guard takes dictionaries and lists");
        return -1;
    }
    Py_ssize_t size = is_list ? PyList_Size(container) : PyDict_Size(container);
    entry->items = PyMem_Calloc(2 * (size_t)size + 1, sizeof *entry->items);
    if (!entry->items) {
        PyErr_NoMemory();
        return -1;
    }
    entry->container = Py_NewRef(container);
    if (is_list) {
        for (Py_ssize_t i = 0; i < size; i++)
            entry->items[entry->count++] = Py_NewRef(PyList_GetItem(container, i));
        return 0;
    }
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (entry->count < 2 * size && PyDict_Next(container, &position, &key, &value)) {
        entry->items[entry->count++] = Py_NewRef(key);
        entry->items[entry->count++] = Py_NewRef(value);
    }
    return 0;
}

static int same(const guarded *entry) {
    PyObject *container = entry->container;
    if (PyList_Check(container)) {
        if (PyList_Size(container) != entry->count)
            return 0;
        for (Py_ssize_t i = 0; i < entry->count; i++)
            if (PyList_GetItem(container, i) != entry->items[i])
                return 0;
        return 1;
    }
    if (2 * PyDict_Size(container) != entry->count)
        return 0;
    PyObject *key, *value;
    Py_ssize_t position = 0, i = 0;
    while (i < entry->count && PyDict_Next(container, &position, &key, &value)) {
        if (key != entry->items[i] || value != entry->items[i + 1])
            return 0;
        i += 2;
    }
    return i == entry->count;
}

int sgpy_guard_holds(PyObject *object) {
    const guard *self = (const guard *)object;
    for (Py_ssize_t i = 0; i < self->count; i++)
        if (!same(&self->containers[i]))
            return 0;
    return 1;
}

static int guard_clear(PyObject *object) {
    guard *self = (guard *)object;
    Py_ssize_t count = self->count;
    guarded *containers = self->containers;
    self->count = 0;
    self->containers = NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        for (Py_ssize_t j = 0; j < containers[i].count; j++)
            Py_DECREF(containers[i].items[j]);
        PyMem_Free(containers[i].items);
        Py_XDECREF(containers[i].container);
    }
    PyMem_Free(containers);
    return 0;
}

static int guard_traverse(PyObject *object, visitproc visit, void *arg) {
    guard *self = (guard *)object;
    Py_VISIT(Py_TYPE(object));
    for (Py_ssize_t i = 0; i < self->count; i++) {
        Py_VISIT(self->containers[i].container);
        for (Py_ssize_t j = 0; j < self->containers[i].count; j++)
            Py_VISIT(self->containers[i].items[j]);
    }
    return 0;
}

static void guard_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    guard_clear(object);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyObject *guard_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"containers", NULL};
    PyObject *sequence;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Guard", names, &sequence))
        return NULL;
    PyObject *containers = PySequence_Tuple(sequence);
    if (!containers)
        return NULL;
    Py_ssize_t count = PyTuple_Size(containers);
    guard *self = (guard *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self) {
        self->containers = PyMem_Calloc((size_t)count + 1, sizeof *self->containers);
        if (!self->containers) {
            PyErr_NoMemory();
            Py_CLEAR(self);
        }
    }
    for (Py_ssize_t i = 0; self && i < count; i++) {
        self->count = i + 1;
        if (remember(&self->containers[i], PyTuple_GetItem(containers, i)) < 0)
            Py_CLEAR(self);
    }
    Py_DECREF(containers);
    return (PyObject *)self;
}

static PyObject *guard_holds(PyObject *object, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(sgpy_guard_holds(object));
}

static PyMethodDef methods[] = {
    {"holds", guard_holds, METH_NOARGS, "Whether every container is as it was."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Guard(containers): remembers what dictionaries and lists hold, by identity."},
    {Py_tp_new, guard_new},
    {Py_tp_dealloc, guard_dealloc},
    {Py_tp_traverse, guard_traverse},
    {Py_tp_clear, guard_clear},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {"segue._core.Guard", sizeof(guard), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots};

int sgpy_add_guard(PyObject *module) {
    sgpy_guard_type = sgpy_add_type(module, &spec, "Guard");
    return sgpy_guard_type ? 0 : -1;
}
