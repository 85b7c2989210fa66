/* Calls: what stands before every call of a drop-in, and the entries it chooses from.
 *
 * An entry is what was prepared for one signature: arguments of certain sizes, strides and dtypes,
 * a module in a certain state (a guard), and tensors of the module with certain layouts. A call
 * looks for the entry that fits and runs its program. On any doubt it does not run anything: MISS
 * means that nothing is prepared for this signature, ORIGINAL that the module's own operators must
 * run.
 *
 * What a tensor is asked, at some 50 ns each: type, get_device, is_cpu (or is_cuda, and data_ptr
 * for its alignment), shape, stride, dtype, is_neg; then data_ptr. Types are compared exactly,
 * which leaves out subclasses such as fake tensors. An entry that fitted once asks all of it at
 * once, of a check of PyTorch's own that Dynamo's guards are made of; what that check refuses, for
 * reasons that may not be ours, is looked at the long way. */
#include "_calls.h"

#include <string.h>

static PyObject *miss, *original;
static PyObject *text_shape, *text_stride, *text_dtype, *text_is_cpu, *text_is_neg,
    *text_requires_grad, *text_is_cuda, *text_get_device;
static PyTypeObject *calls_type;

/* ---- signatures ---------------------------------------------------------------------------- */

static int is_attribute(PyObject *object, PyObject *name, PyObject *expected) {
    PyObject *value = PyObject_GetAttr(object, name);
    if (!value)
        return -1;
    Py_DECREF(value);
    return value == expected;
}

/* Where a tensor lies: -1 the CPU, else a GPU; NULL for anywhere else. */
static PyObject *device_of(PyObject *tensor) {
    PyObject *device = PyObject_CallMethodObjArgs(tensor, text_get_device, NULL);
    int on_gpu = device && PyLong_AsLong(device) >= 0;
    if (device && is_attribute(tensor, on_gpu ? text_is_cuda : text_is_cpu, Py_True) != 1)
        Py_CLEAR(device);
    return device;
}

/* (shape, stride, dtype, device) of a plain tensor; NULL without an exception for any other.
 * Clears *aligned where it lies on a GPU and is not. */
static PyObject *layout_of(PyObject *tensor, int *aligned) {
    PyObject *device = device_of(tensor);
    if (!device)
        return PyErr_Clear(), NULL;
    if (PyLong_AsLong(device) >= 0 && (uintptr_t)sgpy_address_of(tensor) % ALIGNMENT != 0)
        *aligned = 0;
    if (PyErr_Occurred()) /* no strided tensor */
        return PyErr_Clear(), Py_DECREF(device), NULL;
    PyObject *negative = PyObject_CallMethodObjArgs(tensor, text_is_neg, NULL);
    PyObject *shape = PyObject_GetAttr(tensor, text_shape);
    /* Raises for sparse and other layouts without strides. */
    PyObject *stride = shape ? PyObject_CallMethodObjArgs(tensor, text_stride, NULL) : NULL;
    PyObject *dtype = stride ? PyObject_GetAttr(tensor, text_dtype) : NULL;
    PyObject *layout =
        dtype && negative == Py_False ? PyTuple_Pack(4, shape, stride, dtype, device) : NULL;
    Py_DECREF(device);
    Py_XDECREF(negative);
    Py_XDECREF(shape);
    Py_XDECREF(stride);
    Py_XDECREF(dtype);
    PyErr_Clear();
    return layout;
}

static int same_layout(PyObject *layout, PyObject *expected) {
    if (!PyTuple_Check(expected) || PyTuple_Size(expected) != 4 ||
        PyTuple_GetItem(layout, 2) != PyTuple_GetItem(expected, 2))
        return 0;
    static const int compared[] = {0, 1, 3};
    for (int k = 0; k < 3; k++) {
        int i = compared[k];
        if (PyObject_RichCompareBool(PyTuple_GetItem(layout, i), PyTuple_GetItem(expected, i),
                                     Py_EQ) != 1)
            return PyErr_Clear(), 0;
    }
    return 1;
}

/* Other arguments are equal when forward() cannot tell them apart. */
static int same_value(PyObject *value, PyObject *expected) {
    if (value == expected)
        return 1;
    if (Py_TYPE(value) != Py_TYPE(expected))
        return 0;
    if (PyFloat_CheckExact(value)) { /* -0.0 is not 0.0 */
        double a = PyFloat_AsDouble(value), b = PyFloat_AsDouble(expected);
        return memcmp(&a, &b, sizeof a) == 0;
    }
    if (!PyLong_CheckExact(value) && !PyUnicode_CheckExact(value))
        return 0;
    int equal = PyObject_RichCompareBool(value, expected, Py_EQ);
    PyErr_Clear();
    return equal == 1;
}

static int is_tensor(const calls *self, PyObject *value) {
    PyObject *type = (PyObject *)Py_TYPE(value);
    return type == self->tensor_type || type == self->parameter_type;
}

static void forget_layouts(call *now) {
    for (int i = 0; i < now->count; i++)
        Py_CLEAR(now->layouts[i]);
}

/* Reads the arguments, but for layouts; 0 when one is not for us. */
static int gather(const calls *self, PyObject *args, PyObject *kwargs, call *now) {
    now->count = 0;
    Py_ssize_t count = PyTuple_Size(args);
    if (count + PyDict_Size(kwargs) > ARGUMENTS_MAX)
        return 0;
    for (Py_ssize_t i = 0; i < count; i++)
        now->values[now->count++] = PyTuple_GetItem(args, i);
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(kwargs, &position, &key, &value))
        now->values[now->count++] = value;
    memset(now->layouts, 0, sizeof now->layouts);
    for (int i = 0; i < now->count; i++) {
        value = now->values[i];
        now->tensor[i] = is_tensor(self, value);
        if (!now->tensor[i] && value != Py_None && !PyBool_Check(value) &&
            !PyLong_CheckExact(value) && !PyFloat_CheckExact(value) && !PyUnicode_CheckExact(value))
            return 0;
    }
    return 1;
}

/* Reads the layouts of tensors among the arguments; 0 when one is not for us. */
static int read_layouts(call *now) {
    now->aligned = 1;
    for (int i = 0; i < now->count; i++) {
        now->layouts[i] = now->tensor[i] ? layout_of(now->values[i], &now->aligned) : NULL;
        if (now->tensor[i] && !now->layouts[i])
            return 0;
    }
    return 1;
}

static int names_fit(const entry *candidate, PyObject *kwargs) {
    PyObject *names = candidate->fields[NAMES];
    if (PyDict_Size(kwargs) != PyTuple_Size(names))
        return 0;
    PyObject *key, *value;
    Py_ssize_t position = 0, i = 0;
    while (PyDict_Next(kwargs, &position, &key, &value)) {
        PyObject *name = PyTuple_GetItem(names, i++);
        if (key != name && PyObject_RichCompareBool(key, name, Py_EQ) != 1)
            return PyErr_Clear(), 0;
    }
    return 1;
}

/* layouts: whether those of tensors are compared as well. */
static int arguments_fit(const entry *candidate, const call *now, int layouts) {
    PyObject *arguments = candidate->fields[ARGUMENTS];
    if (PyTuple_Size(arguments) != now->count)
        return 0;
    for (int i = 0; i < now->count; i++) {
        PyObject *spec = PyTuple_GetItem(arguments, i);
        if (!PyTuple_Check(spec) || PyTuple_Size(spec) != 2)
            return 0;
        PyObject *expected = PyTuple_GetItem(spec, 1);
        int tensor = PyTuple_GetItem(spec, 0) == Py_True;
        if (tensor != now->tensor[i])
            return 0;
        if (tensor ? layouts && !same_layout(now->layouts[i], expected)
                   : !same_value(now->values[i], expected))
            return 0;
    }
    return 1;
}

/* The module's own tensors may change layout without changing identity, by .data or .to(). Clears
 * *aligned as layout_of does. */
static int tensors_fit(const calls *self, const entry *candidate, int *aligned) {
    PyObject *tensors = candidate->fields[TENSORS];
    Py_ssize_t count = PyTuple_Size(tensors);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *tensor = PyTuple_GetItem(tensors, i);
        PyObject *layout = is_tensor(self, tensor) ? layout_of(tensor, aligned) : NULL;
        int fits = layout && same_layout(layout, PyTuple_GetItem(candidate->fields[LAYOUTS], i));
        Py_XDECREF(layout);
        if (!fits)
            return 0;
    }
    return 1;
}

/* Whether what an entry for a GPU depends on beside layouts is as it was. */
static int place_fits(const calls *self, const entry *candidate, int aligned) {
    return candidate->device < 0 ||
           (candidate->aligned == aligned &&
            (!candidate->switches || sgpy_switches_fit(self, candidate->switches)));
}

/* A tuple of all tensors of a call, arguments first. */
static PyObject *all_tensors(const entry *candidate, const call *now) {
    PyObject *held = candidate->fields[TENSORS];
    Py_ssize_t count = PyTuple_Size(held), at = 0;
    for (int i = 0; i < now->count; i++)
        count += now->tensor[i];
    PyObject *tensors = PyTuple_New(count);
    for (int i = 0; tensors && i < now->count; i++)
        if (now->tensor[i])
            PyTuple_SetItem(tensors, at++, Py_NewRef(now->values[i]));
    for (Py_ssize_t i = 0; tensors && at < count; i++)
        PyTuple_SetItem(tensors, at++, Py_NewRef(PyTuple_GetItem(held, i)));
    return tensors;
}

/* Whether PyTorch's check says that all tensors are laid out as when the entry fitted before. Any
 * call into Python may let another thread run, which may replace the check. */
static int check_holds(const entry *candidate, call *now) {
    PyObject *check = Py_XNewRef(candidate->check);
    int asks_gradient = candidate->asks_gradient;
    PyObject *tensors = check ? all_tensors(candidate, now) : NULL;
    PyObject *answer = tensors ? PyObject_Call(check, tensors, NULL) : NULL;
    int holds = answer == Py_True;
    for (Py_ssize_t i = 0; holds && candidate->device >= 0 && i < PyTuple_Size(tensors); i++)
        holds = !candidate->aligned ||
                (uintptr_t)sgpy_address_of(PyTuple_GetItem(tensors, i)) % ALIGNMENT == 0;
    Py_XDECREF(answer);
    Py_XDECREF(tensors);
    Py_XDECREF(check);
    now->asks_gradient = asks_gradient;
    return PyErr_Clear(), holds;
}

static int fits_quickly(const calls *self, const entry *candidate, PyObject *kwargs, call *now) {
    return candidate->check && (candidate->device < 0 || candidate->aligned) &&
           sgpy_setting_fits(candidate, now->setting) && arguments_fit(candidate, now, 0) &&
           names_fit(candidate, kwargs) && sgpy_guard_holds(candidate->fields[GUARD]) &&
           check_holds(candidate, now) && place_fits(self, candidate, 1);
}

static int fits(const calls *self, const entry *candidate, PyObject *kwargs, const call *now) {
    int aligned = now->aligned;
    return sgpy_setting_fits(candidate, now->setting) && arguments_fit(candidate, now, 1) &&
           names_fit(candidate, kwargs) && sgpy_guard_holds(candidate->fields[GUARD]) &&
           tensors_fit(self, candidate, &aligned) && place_fits(self, candidate, aligned);
}

/* Whether a tensor of the call requires a gradient. */
static int asks_gradient(const entry *chosen, const call *now) {
    for (int i = 0; i < now->count; i++) {
        int asks = now->tensor[i] ? is_attribute(now->values[i], text_requires_grad, Py_True) : 0;
        if (asks)
            return asks;
    }
    PyObject *tensors = chosen->fields[TENSORS];
    for (Py_ssize_t i = 0; i < PyTuple_Size(tensors); i++) {
        int asks = is_attribute(PyTuple_GetItem(tensors, i), text_requires_grad, Py_True);
        if (asks)
            return asks;
    }
    return 0;
}

/* Moves an entry to the front, if it is still there. */
static void prefer(calls *self, PyObject *found) {
    Py_ssize_t count = PyList_Size(self->entries);
    for (Py_ssize_t i = 1; i < count; i++) {
        if (PyList_GetItem(self->entries, i) != found)
            continue;
        if (PySequence_DelItem(self->entries, i) == 0)
            PyList_Insert(self->entries, 0, found);
        break;
    }
    PyErr_Clear();
}

/* Gives an entry that fits a call the check by which it fits later ones, where PyTorch has it. A
 * check that keeps refusing what fits (one tensor passed twice, modes that alternate) is given up.
 */
static void prepare_check(const calls *self, entry *chosen, call *now) {
    enum { TRIES_MAX = 16 };
    int asks = asks_gradient(chosen, now);
    now->asks_gradient = asks;
    if (asks < 0 || self->make_check == Py_None || chosen->checks_made >= TRIES_MAX) {
        PyErr_Clear();
        return;
    }
    PyObject *tensors = all_tensors(chosen, now);
    PyObject *made = tensors ? PyObject_CallFunctionObjArgs(self->make_check, tensors, NULL) : NULL;
    Py_XDECREF(tensors);
    PyObject *before = chosen->check;
    chosen->check = made && made != Py_None ? Py_NewRef(made) : NULL;
    chosen->asks_gradient = asks;
    chosen->checks_made++;
    Py_XDECREF(before);
    Py_XDECREF(made);
    PyErr_Clear();
}

/* A new reference to the entry that fits; NULL without an exception when none, or when an argument
 * is not for us: then *foreign is set. Other threads may change the list between two looks at it.
 */
static entry *find(calls *self, PyObject *kwargs, call *now, int *foreign) {
    for (int quickly = 1; quickly >= 0; quickly--) {
        *foreign = !quickly && !read_layouts(now);
        for (Py_ssize_t i = 0; !*foreign && i < PyList_Size(self->entries); i++) {
            PyObject *held = Py_NewRef(PyList_GetItem(self->entries, i));
            entry *candidate = (entry *)held;
            if (quickly ? fits_quickly(self, candidate, kwargs, now)
                        : fits(self, candidate, kwargs, now)) {
                if (i > 0)
                    prefer(self, held);
                if (!quickly)
                    prepare_check(self, candidate, now);
                forget_layouts(now);
                return candidate;
            }
            Py_DECREF(held);
            PyErr_Clear();
        }
    }
    forget_layouts(now);
    return NULL;
}

/* ---- the call ------------------------------------------------------------------------------ */

static PyObject *run_entry(const calls *self, const entry *chosen, const call *now) {
    if (chosen->fields[PROGRAM] != Py_None)
        return sgpy_run_program(self, chosen, now);
    PyObject *arguments = PyTuple_New(now->count);
    for (int i = 0; arguments && i < now->count; i++)
        if (PyTuple_SetItem(arguments, i, Py_NewRef(now->values[i])) < 0)
            Py_CLEAR(arguments);
    if (!arguments)
        return NULL;
    PyObject *result = PyObject_CallFunctionObjArgs(chosen->fields[RUNNER], arguments,
                                                    chosen->fields[TENSORS], NULL);
    Py_DECREF(arguments);
    return result;
}

/* The result of a call that was gathered and has its setting; NULL with an exception set. */
static PyObject *answer(calls *self, PyObject *module, PyObject *args, PyObject *kwargs, call *now,
                        int gradients) {
    int foreign = 0;
    entry *chosen = find(self, kwargs, now, &foreign);
    PyObject *result;
    if (!chosen) {
        result = Py_NewRef(foreign ? original : miss);
    } else if (chosen->fields[PROGRAM] == Py_None && chosen->fields[RUNNER] == Py_None) {
        result = Py_NewRef(original);
    } else {
        int needs = gradients && now->asks_gradient ? sgpy_is_true_now(self->is_grad_enabled) : 0;
        if (needs < 0)
            result = NULL;
        else if (needs)
            result = PyObject_CallFunctionObjArgs(chosen->fields[GRADIENT], chosen, module, args,
                                                  kwargs, NULL);
        else
            result = run_entry(self, chosen, now);
    }
    Py_XDECREF(chosen);
    return result;
}

static PyObject *call_with(calls *self, PyObject *module, PyObject *args, PyObject *kwargs,
                           int gradients) {
    int busy = sgpy_in_a_mode(self);
    if (busy < 0)
        return NULL;
    if (module != self->owner)
        return Py_NewRef(miss);
    call now;
    if (busy || !gather(self, args, kwargs, &now))
        return Py_NewRef(original);
    now.setting = sgpy_setting_now(self);
    PyObject *result = now.setting ? answer(self, module, args, kwargs, &now, gradients) : NULL;
    Py_XDECREF(now.setting);
    return result;
}

static PyObject *calls_method(PyObject *object, PyObject *args, int gradients) {
    PyObject *module, *arguments, *keywords;
    if (!PyArg_ParseTuple(args, "OO!O!", &module, &PyTuple_Type, &arguments, &PyDict_Type,
                          &keywords))
        return NULL;
    return call_with((calls *)object, module, arguments, keywords, gradients);
}

static PyObject *calls_run(PyObject *object, PyObject *args) {
    return calls_method(object, args, 1);
}

static PyObject *calls_run_values(PyObject *object, PyObject *args) {
    return calls_method(object, args, 0);
}

static PyObject *calls_busy(PyObject *object, PyObject *unused) {
    (void)unused;
    int busy = sgpy_in_a_mode((calls *)object);
    return busy < 0 ? NULL : PyBool_FromLong(busy);
}

static PyObject *calls_add(PyObject *object, PyObject *added) {
    calls *self = (calls *)object;
    if (!PyObject_TypeCheck(added, sgpy_entry_type)) {
        PyErr_SetString(PyExc_TypeError, "add takes an Entry");
        return NULL;
    }
    if (PyList_Insert(self->entries, 0, added) < 0)
        return NULL;
    Py_ssize_t count = PyList_Size(self->entries);
    if (count > self->capacity && PyList_SetSlice(self->entries, self->capacity, count, NULL) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *calls_setting(PyObject *object, PyObject *unused) {
    (void)unused;
    return sgpy_setting_now((calls *)object);
}

static PyObject *calls_entries(PyObject *object, void *unused) {
    (void)unused;
    calls *self = (calls *)object;
    return PyList_GetSlice(self->entries, 0, PyList_Size(self->entries));
}

static PyObject *calls_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"owner",
                            "tensor_type",
                            "parameter_type",
                            "predicates",
                            "is_grad_enabled",
                            "get_num_threads",
                            "empty_strided",
                            "gpu",
                            "switches",
                            "settings",
                            "make_check",
                            "capacity",
                            NULL};
    PyObject *owner, *tensor, *parameter, *predicates, *grad, *threads, *empty, *gpu, *switches,
        *settings, *make_check;
    Py_ssize_t capacity;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO!OOOO!O!O!On:Calls", names, &owner, &tensor,
                                     &parameter, &PyTuple_Type, &predicates, &grad, &threads,
                                     &empty, &PyTuple_Type, &gpu, &PyTuple_Type, &switches,
                                     &PyTuple_Type, &settings, &make_check, &capacity))
        return NULL;
    if (PyTuple_Size(gpu) != GPU_FUNCTIONS || PyTuple_Size(settings) > SETTINGS_MAX) {
        PyErr_Format(sgpy_error, "%d functions for GPUs are needed, and at most %d settings",
                     GPU_FUNCTIONS, SETTINGS_MAX);
        return NULL;
    }
    calls *self = (calls *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self)
        return NULL;
    self->owner = owner;
    self->tensor_type = Py_NewRef(tensor);
    self->parameter_type = Py_NewRef(parameter);
    self->predicates = Py_NewRef(predicates);
    self->is_grad_enabled = Py_NewRef(grad);
    self->get_num_threads = Py_NewRef(threads);
    self->empty_strided = Py_NewRef(empty);
    for (int i = 0; i < GPU_FUNCTIONS; i++)
        self->gpu[i] = Py_NewRef(PyTuple_GetItem(gpu, i));
    self->switches = Py_NewRef(switches);
    self->settings = Py_NewRef(settings);
    self->make_check = Py_NewRef(make_check);
    self->capacity = capacity;
    self->entries = PyList_New(0);
    if (!self->entries)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int calls_traverse(PyObject *object, visitproc visit, void *arg) {
    calls *self = (calls *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->predicates);
    Py_VISIT(self->entries);
    return 0;
}

static int calls_clear(PyObject *object) {
    calls *self = (calls *)object;
    Py_CLEAR(self->predicates);
    Py_CLEAR(self->entries);
    return 0;
}

static void calls_dealloc(PyObject *object) {
    calls *self = (calls *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    calls_clear(object);
    Py_CLEAR(self->tensor_type);
    Py_CLEAR(self->parameter_type);
    Py_CLEAR(self->is_grad_enabled);
    Py_CLEAR(self->get_num_threads);
    Py_CLEAR(self->empty_strided);
    for (int i = 0; i < GPU_FUNCTIONS; i++)
        Py_CLEAR(self->gpu[i]);
    Py_CLEAR(self->switches);
    Py_CLEAR(self->settings);
    Py_CLEAR(self->make_check);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

/* ---- types --------------------------------------------------------------------------------- */

static PyMethodDef calls_methods[] = {
    {"run", calls_run, METH_VARARGS,
     "run(module, args, kwargs): the result of a call, or MISS, or ORIGINAL."},
    {"run_values", calls_run_values, METH_VARARGS, "The same where gradients are not asked for."},
    {"setting", calls_setting, METH_NOARGS,
     "What the thread has set: a tuple with an item for each of settings, or None."},
    {"busy", calls_busy, METH_NOARGS, "Whether a mode is on in which the original must run."},
    {"add", calls_add, METH_O, "Puts an entry in front; the one used least recently goes."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef calls_getters[] = {
    {"entries", calls_entries, NULL, "The entries, most recently used first.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot calls_slots[] = {
    {Py_tp_doc,
     "Calls(owner, tensor_type, parameter_type, predicates, is_grad_enabled, "
     "get_num_threads, empty_strided, gpu, switches, settings, make_check, capacity): the "
     "prepared calls of one drop-in."},
    {Py_tp_new, calls_new},
    {Py_tp_dealloc, calls_dealloc},
    {Py_tp_traverse, calls_traverse},
    {Py_tp_clear, calls_clear},
    {Py_tp_methods, calls_methods},
    {Py_tp_getset, calls_getters},
    {0, NULL},
};

static PyType_Spec calls_spec = {"segue._core.Calls", sizeof(calls), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, calls_slots};

static int add_sentinel(PyObject *module, const char *name, PyObject **sentinel) {
    *sentinel = PyObject_CallNoArgs((PyObject *)&PyBaseObject_Type);
    return *sentinel ? PyModule_AddObjectRef(module, name, *sentinel) : -1;
}

int sgpy_add_calls(PyObject *module) {
    text_shape = PyUnicode_InternFromString("shape");
    text_stride = PyUnicode_InternFromString("stride");
    text_dtype = PyUnicode_InternFromString("dtype");
    text_is_cpu = PyUnicode_InternFromString("is_cpu");
    text_is_neg = PyUnicode_InternFromString("is_neg");
    text_is_cuda = PyUnicode_InternFromString("is_cuda");
    text_get_device = PyUnicode_InternFromString("get_device");
    text_requires_grad = PyUnicode_InternFromString("requires_grad");
    if (PyErr_Occurred() || sgpy_start_running() < 0 || add_sentinel(module, "MISS", &miss) < 0 ||
        add_sentinel(module, "ORIGINAL", &original) < 0)
        return -1;
    calls_type = sgpy_add_type(module, &calls_spec, "Calls");
    return calls_type ? 0 : -1;
}
