// Carries the precompiled header of the compiler; see MoePCH.h.
