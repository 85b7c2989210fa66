/* Entry: holds its fields and checks once that they fit each other, so that a call need not. */
#include "_entry.h"

PyTypeObject *sgpy_entry_type;

static const char *const field_names[FIELDS + 1] = {
    "names",   "arguments", "guard",  "tensors",  "layouts", "binding", "program",
    "outputs", "rebuild",   "runner", "gradient", "place",   "setting", NULL,
};

static int read_place(entry *self) {
    PyObject *place = self->fields[PLACE];
    self->device = -1;
    if (place == Py_None)
        return 0;
    PyObject *switches, *workspace;
    if (!PyTuple_Check(place)) {
        PyErr_SetString(PyExc_TypeError, "place must be a tuple or None");
        return -1;
    }
    if (!PyArg_ParseTuple(place, "ipOO;place is (device, aligned, switches, workspace)",
                          &self->device, &self->aligned, &switches, &workspace))
        return -1;
    self->switches = switches == Py_None ? NULL : switches;
    self->workspace = workspace == Py_None ? NULL : workspace;
    int fits = self->device >= 0 && (!self->switches || PyTuple_Check(switches)) &&
               (!self->workspace || (PyTuple_Check(workspace) && PyTuple_Size(workspace) >= 2));
    if (!fits)
        PyErr_SetString(sgpy_error, "an entry's place is not of the right form");
    return fits ? 0 : -1;
}

static int entry_check(entry *self) {
    static const int tuples[] = {NAMES, ARGUMENTS, TENSORS, LAYOUTS, BINDING, OUTPUTS};
    for (size_t i = 0; i < sizeof tuples / sizeof *tuples; i++)
        if (!PyTuple_Check(self->fields[tuples[i]])) {
            PyErr_Format(PyExc_TypeError, "%s must be a tuple", field_names[tuples[i]]);
            return -1;
        }
    Py_ssize_t arguments = PyTuple_Size(self->fields[ARGUMENTS]);
    Py_ssize_t tensors = PyTuple_Size(self->fields[TENSORS]);
    Py_ssize_t inputs = PyTuple_Size(self->fields[BINDING]);
    PyObject *program = self->fields[PROGRAM];
    if (arguments > ARGUMENTS_MAX || tensors > TENSORS_MAX || inputs > TENSORS_MAX ||
        PyTuple_Size(self->fields[OUTPUTS]) > OUTPUTS_MAX ||
        PyTuple_Size(self->fields[LAYOUTS]) != tensors ||
        PyTuple_Size(self->fields[NAMES]) > arguments ||
        !PyObject_TypeCheck(self->fields[GUARD], sgpy_guard_type) ||
        (program != Py_None && !PyObject_TypeCheck(program, sgpy_program_type))) {
        PyErr_SetString(sgpy_error, "an entry's fields do not fit each other");
        return -1;
    }
    self->input_count = (int)inputs;
    for (int i = 0; i < self->input_count; i++) {
        long index = PyLong_AsLong(PyTuple_GetItem(self->fields[BINDING], i));
        if (PyErr_Occurred())
            return -1;
        if (index >= arguments || -1 - index >= tensors) {
            PyErr_SetString(sgpy_error, "an entry's binding points past its tensors");
            return -1;
        }
        self->binding[i] = (int)index;
    }
    if (program != Py_None) {
        const sg_program *handle = ((sgpy_program *)program)->program;
        if (sg_program_input_count(handle) != inputs ||
            sg_program_output_count(handle) != PyTuple_Size(self->fields[OUTPUTS])) {
            PyErr_SetString(sgpy_error, "an entry's program has other inputs or outputs");
            return -1;
        }
    }
    return 0;
}

static PyObject *entry_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *fields[FIELDS];
    fields[PLACE] = fields[SETTING] = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOOOOOOO|OO:Entry", (char **)field_names,
                                     &fields[0], &fields[1], &fields[2], &fields[3], &fields[4],
                                     &fields[5], &fields[6], &fields[7], &fields[8], &fields[9],
                                     &fields[10], &fields[11], &fields[12]))
        return NULL;
    entry *self = (entry *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self)
        return NULL;
    for (int i = 0; i < FIELDS; i++)
        self->fields[i] = Py_NewRef(fields[i]);
    if (entry_check(self) < 0 || read_place(self) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int entry_traverse(PyObject *object, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(object));
    for (int i = 0; i < FIELDS; i++)
        Py_VISIT(((entry *)object)->fields[i]);
    Py_VISIT(((entry *)object)->check);
    return 0;
}

static int entry_clear(PyObject *object) {
    for (int i = 0; i < FIELDS; i++)
        Py_CLEAR(((entry *)object)->fields[i]);
    Py_CLEAR(((entry *)object)->check);
    return 0;
}

static void entry_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    entry_clear(object);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyObject *entry_field(PyObject *object, void *field) {
    PyObject *value = ((entry *)object)->fields[(intptr_t)field];
    return Py_NewRef(value ? value : Py_None);
}

static PyGetSetDef entry_getters[] = {
    {"guard", entry_field, NULL, NULL, (void *)GUARD},
    {"tensors", entry_field, NULL, NULL, (void *)TENSORS},
    {"program", entry_field, NULL, NULL, (void *)PROGRAM},
    {"runner", entry_field, NULL, NULL, (void *)RUNNER},
    {"arguments", entry_field, NULL, NULL, (void *)ARGUMENTS},
    {"names", entry_field, NULL, NULL, (void *)NAMES},
    {"place", entry_field, NULL, NULL, (void *)PLACE},
    {"setting", entry_field, NULL, NULL, (void *)SETTING},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot entry_slots[] = {
    {Py_tp_doc,
     "Entry(names, arguments, guard, tensors, layouts, binding, program, outputs, rebuild, "
     "runner, gradient, place=None, setting=None): what was prepared for one signature."},
    {Py_tp_new, entry_new},
    {Py_tp_dealloc, entry_dealloc},
    {Py_tp_traverse, entry_traverse},
    {Py_tp_clear, entry_clear},
    {Py_tp_getset, entry_getters},
    {0, NULL},
};

static PyType_Spec spec = {"segue._core.Entry", sizeof(entry), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, entry_slots};

int sgpy_add_entry(PyObject *module) {
    sgpy_entry_type = sgpy_add_type(module, &spec, "Entry");
    return sgpy_entry_type ? 0 : -1;
}
