#include "fuse-mount/handle.h"

#include <stddef.h>

void fm_handles_init(struct fm_handles *handles)
{
	handles->first = NULL;
	pthread_mutex_init(&handles->lock, NULL);
}

void fm_handles_done(struct fm_handles *handles)
{
	while (handles->first)
		fm_handle_free(handles, handles->first);
	pthread_mutex_destroy(&handles->lock);
}

void fm_handle_add(struct fm_handles *handles, struct fm_handle *handle)
{
	pthread_mutex_lock(&handles->lock);
	handle->next = handles->first;
	handle->link = &handles->first;
	if (handle->next)
		handle->next->link = &handle->next;
	handles->first = handle;
	pthread_mutex_unlock(&handles->lock);
}

void fm_handle_free(struct fm_handles *handles, struct fm_handle *handle)
{
	if (!handle)
		return;
	pthread_mutex_lock(&handles->lock);
	*handle->link = handle->next;
	if (handle->next)
		handle->next->link = handle->link;
	pthread_mutex_unlock(&handles->lock);
	handle->free(handle);
}
