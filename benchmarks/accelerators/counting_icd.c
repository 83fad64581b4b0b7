/*
 * A Vulkan driver that hands everything on to another one, and counts what a program asks of it: dispatches that it
 * records, and compute pipelines that it creates.
 *
 * The path of the other driver is in the environment variable COUNTED_VULKAN_DRIVER. Whoever loads this file into the same
 * process (dlopen, ctypes) reads the variables `dispatches` and `pipelines`. Vulkan's headers are not needed: what is
 * used of version 5 of the interface between the loader and a driver is declared here.
 */

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

typedef int32_t result;
typedef void (*function)(void);
typedef void *instance, *device, *command_buffer, *physical_device; /* dispatchable handles */
typedef uint64_t handle;                                            /* the other ones */

typedef function (*get_function)(void *owner, const char *name);
typedef result (*negotiate_version)(uint32_t *version);
typedef result (*create_compute_pipelines)(device, handle cache, uint32_t count, const void *descriptions,
                                           const void *allocator, handle *made);
typedef void (*dispatch)(command_buffer, uint32_t x, uint32_t y, uint32_t z);
typedef void (*dispatch_base)(command_buffer, uint32_t x0, uint32_t y0, uint32_t z0, uint32_t x, uint32_t y, uint32_t z);
typedef void (*dispatch_indirect)(command_buffer, handle buffer, uint64_t offset);

EXPORTED _Atomic uint64_t dispatches;
EXPORTED _Atomic uint64_t pipelines;

/* The driver's own functions, filled in when the program asks for them. */
static function real_device_function, real_create, real_dispatch, real_dispatch_base, real_dispatch_indirect;

static function device_function(device owner, const char *name);

static result counted_create(device owner, handle cache, uint32_t count, const void *descriptions,
                             const void *allocator, handle *made)
{
    pipelines += count;
    return ((create_compute_pipelines)real_create)(owner, cache, count, descriptions, allocator, made);
}

static void counted_dispatch(command_buffer commands, uint32_t x, uint32_t y, uint32_t z)
{
    dispatches += 1;
    ((dispatch)real_dispatch)(commands, x, y, z);
}

static void counted_dispatch_base(command_buffer commands, uint32_t x0, uint32_t y0, uint32_t z0, uint32_t x, uint32_t y,
                                  uint32_t z)
{
    dispatches += 1;
    ((dispatch_base)real_dispatch_base)(commands, x0, y0, z0, x, y, z);
}

static void counted_dispatch_indirect(command_buffer commands, handle buffer, uint64_t offset)
{
    dispatches += 1;
    ((dispatch_indirect)real_dispatch_indirect)(commands, buffer, offset);
}

static const struct {
    const char *name;
    function counted;
    function *real;
} REPLACED[] = {
    {"vkGetDeviceProcAddr", (function)device_function, &real_device_function},
    {"vkCreateComputePipelines", (function)counted_create, &real_create},
    {"vkCmdDispatch", (function)counted_dispatch, &real_dispatch},
    {"vkCmdDispatchBase", (function)counted_dispatch_base, &real_dispatch_base},
    {"vkCmdDispatchBaseKHR", (function)counted_dispatch_base, &real_dispatch_base},
    {"vkCmdDispatchIndirect", (function)counted_dispatch_indirect, &real_dispatch_indirect},
};

/* The function of that name to hand out in place of `real`, which is what the driver gives; NULL stays NULL. */
static function replaced(const char *name, function real)
{
    for (size_t place = 0; real != NULL && place < sizeof REPLACED / sizeof *REPLACED; ++place)
        if (strcmp(name, REPLACED[place].name) == 0) {
            *REPLACED[place].real = real;
            return REPLACED[place].counted;
        }
    return real;
}

static function device_function(device owner, const char *name)
{
    return replaced(name, ((get_function)real_device_function)(owner, name));
}

static function from_driver(const char *name)
{
    static void *driver;
    const char *path = getenv("COUNTED_VULKAN_DRIVER");

    if (driver == NULL && (path == NULL || (driver = dlopen(path, RTLD_NOW | RTLD_LOCAL)) == NULL)) {
        fprintf(stderr, "counting_icd: COUNTED_VULKAN_DRIVER: %s\n", path == NULL ? "not set" : dlerror());
        exit(2);
    }
    return (function)dlsym(driver, name);
}

EXPORTED result vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version)
{
    return ((negotiate_version)from_driver("vk_icdNegotiateLoaderICDInterfaceVersion"))(version);
}

EXPORTED function vk_icdGetInstanceProcAddr(instance owner, const char *name)
{
    return replaced(name, ((get_function)from_driver("vk_icdGetInstanceProcAddr"))(owner, name));
}

EXPORTED function vk_icdGetPhysicalDeviceProcAddr(instance owner, const char *name)
{
    get_function real = (get_function)from_driver("vk_icdGetPhysicalDeviceProcAddr");

    return real == NULL ? NULL : real(owner, name);
}
