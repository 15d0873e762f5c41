"""What compilers can be told about memory that is needed soon, and about waiting; else nothing."""

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define PLAYFIELD_WILL_READ(address) __builtin_prefetch((address), 0, 2)
    #define PLAYFIELD_WILL_WRITE(address) __builtin_prefetch((address), 1, 2)
    #else
    #define PLAYFIELD_WILL_READ(address) ((void)(address))
    #define PLAYFIELD_WILL_WRITE(address) ((void)(address))
    #endif
    #if (defined(__GNUC__) || defined(__clang__)) && (defined(__i386__) || defined(__x86_64__))
    #define PLAYFIELD_PAUSE() __builtin_ia32_pause()
    #else
    #define PLAYFIELD_PAUSE() ((void)0)
    #endif
    #define PLAYFIELD_LOOK(flag) (*(const volatile int *)&(flag))
    """
    # Never faults, whatever the address.
    void will_read "PLAYFIELD_WILL_READ"(const void *address) noexcept nogil
    void will_write "PLAYFIELD_WILL_WRITE"(const void *address) noexcept nogil
    # What a loop that waits for another thread does in between, and how it looks at a flag anew.
    void pause "PLAYFIELD_PAUSE"() noexcept nogil
    int look_at "PLAYFIELD_LOOK"(int flag) noexcept nogil
