/* What surrounds a call beside its arguments: modes in which nothing may run, what the thread has
 * set, and PyTorch's switches. */
#include "_calls.h"

/* Modes in which a call means more than its result: tracing, transforms. Of a pair of predicates
 * both must hold. */
int sgpy_in_a_mode(const calls *self) {
    Py_ssize_t count = PyTuple_Size(self->predicates);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *predicate = PyTuple_GetItem(self->predicates, i);
        int pair = PyTuple_Check(predicate);
        int now = sgpy_is_true_now(pair ? PyTuple_GetItem(predicate, 0) : predicate);
        if (pair && now > 0)
            now = sgpy_is_true_now(PyTuple_GetItem(predicate, 1));
        if (now)
            return now;
    }
    return 0;
}

/* A new reference to what one of settings tells; NULL with an exception set. */
static PyObject *tell(PyObject *setting) {
    PyObject *quick, *function;
    if (!PyArg_ParseTuple(setting, "OO;a setting is (quick, tell)", &quick, &function))
        return NULL;
    int asked = quick == Py_None ? 1 : sgpy_is_true_now(quick);
    if (asked < 0)
        return NULL;
    return asked ? PyObject_CallNoArgs(function) : Py_NewRef(Py_None);
}

PyObject *sgpy_setting_now(const calls *self) {
    PyObject *told[SETTINGS_MAX], *setting = NULL;
    Py_ssize_t count = PyTuple_Size(self->settings), known = 0;
    int usual = 1;
    for (; known < count; known++) {
        told[known] = tell(PyTuple_GetItem(self->settings, known));
        if (!told[known])
            break;
        usual &= told[known] == Py_None;
    }
    if (known == count)
        setting = usual ? Py_NewRef(Py_None) : PyTuple_New(count);
    for (Py_ssize_t i = 0; i < known; i++) {
        if (setting && !usual)
            PyTuple_SetItem(setting, i, told[i]);
        else
            Py_DECREF(told[i]);
    }
    return setting;
}

int sgpy_setting_fits(const entry *candidate, PyObject *setting) {
    PyObject *wanted = candidate->fields[SETTING];
    if (wanted == setting)
        return 1;
    int equal = PyObject_RichCompareBool(wanted, setting, Py_EQ);
    PyErr_Clear();
    return equal == 1;
}

int sgpy_switches_fit(const calls *self, PyObject *expected) {
    Py_ssize_t count = PyTuple_Size(self->switches);
    int fit = PyTuple_Size(expected) == count;
    for (Py_ssize_t i = 0; fit && i < count; i++) {
        PyObject *how = PyTuple_GetItem(self->switches, i);
        PyObject *value = PyObject_Call(PyTuple_GetItem(how, 0), PyTuple_GetItem(how, 1), NULL);
        fit = value && PyObject_RichCompareBool(value, PyTuple_GetItem(expected, i), Py_EQ) == 1;
        Py_XDECREF(value);
    }
    PyErr_Clear();
    return fit;
}
