"""How kernels are compiled: once after installation, then kept beside the source; without the GIL.

Numba compiles a callee into every caller, so what is large is called from few places, and NumPy functions that bring
much of NumPy with them (partition, sort) stay outside of kernels. A literal argument is a type of its own, for which
the callee is compiled anew: hence np.int64(0).
"""

import numba

kernel = numba.njit(cache=True, nogil=True)
# Called by kernels alone: without the wrappers that Python would need, which take a tenth of the time. To call one from
# Python crashes.
inner = numba.njit(cache=True, nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
inlined = numba.njit(cache=True, nogil=True, inline="always")
