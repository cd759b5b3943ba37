/* A Redis module for the tests: a read, a write, and a command that blocks its client. Declares what it uses of the module API
 * (redismodule.h is in no package), which modules get by name from the function that every context begins with. */
#include <stddef.h>

typedef struct Ctx Ctx;
typedef struct Str Str;
typedef struct Reply Reply;
typedef struct Blocked Blocked;
typedef int (*Command)(Ctx *, Str **, int);

static int (*set_attribs)(Ctx *, const char *, int, int);
static int (*create)(Ctx *, const char *, Command, const char *, int, int, int);
static Reply *(*call)(Ctx *, const char *, const char *, ...);
static int (*pass)(Ctx *, Reply *);
static void (*free_reply)(Reply *);
static int (*wrong_arity)(Ctx *);
static int (*reply_null)(Ctx *);
static int (*to_number)(const Str *, long long *);
static Blocked *(*block)(Ctx *, Command, Command, void (*)(Ctx *, void *), long long);

static int get(Ctx *ctx, Str **argv, int argc) {
    if (argc != 2) return wrong_arity(ctx);
    Reply *reply = call(ctx, "GET", "s", argv[1]);
    pass(ctx, reply);
    free_reply(reply);
    return 0;
}

static int set(Ctx *ctx, Str **argv, int argc) {
    if (argc != 3) return wrong_arity(ctx);
    Reply *reply = call(ctx, "SET", "!ss", argv[1], argv[2]);
    pass(ctx, reply);
    free_reply(reply);
    return 0;
}

static int in_time(Ctx *ctx, Str **argv, int argc) {
    (void)argv, (void)argc;
    return reply_null(ctx);
}

static int wait_for(Ctx *ctx, Str **argv, int argc) {
    long long ms;
    if (argc != 2 || to_number(argv[1], &ms) != 0) return wrong_arity(ctx);
    block(ctx, in_time, in_time, NULL, ms);
    return 0;
}

int RedisModule_OnLoad(Ctx *ctx, Str **argv, int argc) {
    (void)argv, (void)argc;
    int (*api)(const char *, void *) = (int (*)(const char *, void *))((void **)ctx)[0];
    api("RedisModule_SetModuleAttribs", &set_attribs);
    api("RedisModule_CreateCommand", &create);
    api("RedisModule_Call", &call);
    api("RedisModule_ReplyWithCallReply", &pass);
    api("RedisModule_FreeCallReply", &free_reply);
    api("RedisModule_WrongArity", &wrong_arity);
    api("RedisModule_ReplyWithNull", &reply_null);
    api("RedisModule_StringToLongLong", &to_number);
    api("RedisModule_BlockClient", &block);
    set_attribs(ctx, "weir", 1, 1);
    return create(ctx, "weir.get", get, "readonly", 1, 1, 1) | create(ctx, "weir.set", set, "write", 1, 1, 1) |
           create(ctx, "weir.wait", wait_for, "blocking", 0, 0, 0);
}
